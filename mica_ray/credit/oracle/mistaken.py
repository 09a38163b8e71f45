"""Estimators as other systems compute them, so that the bench can show what goes wrong; not for training.

Each is named for what it does. They keep the shapes of the protocol: they are wrong in what they mean.
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
    """Run the return backwards over tokens, then whiten over the tokens of the batch.

    With `resets` the running return is set to zero at every token of the user, so nothing that is earned
    later reaches a turn. Without, user tokens are stepped over, and the form is REINFORCE++ (arXiv
    2501.03262) with gamma per token. A turn's advantage is the mean of its tokens'.
    """

    resets: bool = True
    gamma: float = 1.0
    """Discount per token of the policy."""
    reply_tokens: int = 3
    user_tokens: int = 2

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Give the advantage of every turn, [B, T] float64."""
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
    """Find the turns by their rewards: a reward that is not 0 ends a turn, the k-th found is turn k.

    A turn that earned exactly 0 is not found: it gets no credit, and every later turn is compared with
    siblings' turns of another index. What is found is credited by returns at the same (found) turn.
    """

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Give the advantage of every turn, [B, T] float64; 0 for turns that were not found."""
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
    """Normalise rewards at the same turn over the group first, then sum them from each turn on.

    The survivors' normalised rewards sum to zero at every turn, so a choice that acts only through who
    survives gets exactly none.
    """

    divide: bool = True

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Give the advantage of every turn, [B, T] float64."""
        segments = turn_segments(turns.group, turns.rewards.shape[1])
        normalized = standardize(turns.rewards, turns.valid, segments=segments, divide=self.divide)
        return discounted_returns(normalized, turns.valid, gamma=1.0)


@dataclass(frozen=True, slots=True)
class SummedToOne:
    """Sum a dialogue's rewards into one number and give it to all its turns, normalised over the group.

    The formula is GRPO's (arXiv 2402.03300), on which it is right. As credit of turns it is blind: the reply
    that helped and the reply that hurt get the same.
    """

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Give the advantage of every turn, [B, T] float64."""
        return Grpo()(turns)
