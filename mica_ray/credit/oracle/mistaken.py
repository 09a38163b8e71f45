"""Wrong estimators found in other systems, for the bench. Not for training.

Each is named after what it does. They keep the protocol of credit/estimator.py; only the values are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mica_ray.credit.grpo import Grpo
from mica_ray.credit.mica import Mica
from mica_ray.credit.normalize import standardize, turn_segments
from mica_ray.credit.returns import discounted_returns
from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True)
class TokenRecursion:
    """Accumulate the return backwards over tokens, then whiten over the tokens of the batch.

    With `resets` the running return becomes 0 at every user token, so later rewards never reach a turn.
    Without it user tokens are skipped, which is REINFORCE++ (arXiv 2501.03262) with gamma per token. The
    advantage of a turn is the mean over its tokens.
    """

    resets: bool = True
    """Whether user tokens reset the running return."""
    gamma: float = 1.0
    """Discount per token of the policy."""
    reply_tokens: int = 3
    """Tokens of each simulated reply."""
    user_tokens: int = 2
    """Tokens of each simulated user message."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Compute the advantage of every turn, [B, T] float64."""
        num_dialogues, num_turns = turns.rewards.shape
        width = self.user_tokens + self.reply_tokens
        is_reply = np.tile(np.arange(width) >= self.user_tokens, num_turns)
        trained = np.repeat(turns.valid, width, axis=1) & is_reply
        rewards = np.zeros(trained.shape)
        rewards[:, width - 1 :: width] = np.where(turns.valid, turns.rewards, 0.0)
        returns, running = np.zeros(trained.shape), np.zeros(num_dialogues)
        for column in range(trained.shape[1] - 1, -1, -1):
            stepped_over = np.zeros(num_dialogues) if self.resets else running
            running = np.where(trained[:, column], rewards[:, column] + self.gamma * running, stepped_over)
            returns[:, column] = running
        whitened = standardize(returns, trained, segments=np.zeros(trained.shape, dtype=np.int64))
        return whitened.reshape(num_dialogues, num_turns, width)[..., self.user_tokens :].mean(axis=2)


@dataclass(frozen=True, slots=True)
class TurnsFromRewards:
    """Infer turns from rewards: the k-th non-zero reward ends turn k.

    A turn with a reward of exactly 0 is missed. It gets no credit, and every later turn is compared with
    siblings at another index. The turns found are credited by returns at the same (found) turn.
    """

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Compute the advantage of every turn, [B, T] float64; 0 for missed turns."""
        found = turns.valid & (turns.rewards != 0)
        row = np.nonzero(found)[0]
        position = (np.cumsum(found, axis=1) - 1)[found]
        rewards, valid = np.zeros(found.shape), np.zeros(found.shape, dtype=bool)
        rewards[row, position] = turns.rewards[found]
        valid[row, position] = True
        credited = Mica(alpha=1.0, gamma=1.0)(TurnRewards(rewards, valid, turns.group))
        advantages = np.zeros(found.shape)
        advantages[found] = credited[row, position]
        return advantages


@dataclass(frozen=True, slots=True)
class NormalizeThenAccumulate:
    """Normalize rewards at the same turn over the group first, then sum them from each turn on.

    The normalized rewards sum to zero at every turn, so a reply whose only effect is the length of the
    dialogue gets exactly no credit.
    """

    divide: bool = True
    """Whether to divide by the standard deviations."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Compute the advantage of every turn, [B, T] float64."""
        segments = turn_segments(turns.group, turns.rewards.shape[1])
        normalized = standardize(turns.rewards, turns.valid, segments=segments, divide=self.divide)
        return discounted_returns(normalized, turns.valid, gamma=1.0)


@dataclass(frozen=True, slots=True)
class SummedToOne:
    """Sum a dialogue's rewards, normalize over the group, and copy it to all its turns.

    This is GRPO (arXiv 2402.03300), correct for single replies. As credit for turns it cannot distinguish a
    reply that helped from one that hurt.
    """

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Compute the advantage of every turn, [B, T] float64."""
        return Grpo()(turns)
