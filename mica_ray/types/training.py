"""The values of a training step: turn rewards, token batch, weights, update report.

The dialogues that they come from are in types/dialogue.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class TurnRewards:
    """The input of a credit estimator.

    Two dialogues of one scenario, the second of them one turn long:

    >>> turns = TurnRewards(
    ...     rewards=np.array([[1.0, 2.0], [-1.0, 0.0]]),
    ...     valid=np.array([[True, True], [True, False]]),
    ...     group=np.array([0, 0]),
    ... )
    >>> turns.rewards[turns.valid]
    array([ 1.,  2., -1.])

    Attributes:
        rewards: [B, T] float64, reward units (points of distance); arbitrary where not valid.
        valid: [B, T] bool, whether the turn was played and judged. A failed judgement leaves a hole.
        group: [B] int, equal for dialogues of one scenario.
        states: [B, T, K] float64, the need state before the reply of turn t (P_{t-1}, points); arbitrary
            where not valid. None if not recorded; AnchorStates and TurnGae then raise ValueError.
            The states belong to the batch: one estimator serves many batches.
    """

    rewards: np.ndarray
    valid: np.ndarray
    group: np.ndarray
    states: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        shape = self.rewards.shape
        if len(shape) != 2 or self.valid.shape != shape or self.group.shape != shape[:1]:
            raise ValueError(
                "rewards and valid must be [B, T] and group [B], "
                f"got {self.rewards.shape}, {self.valid.shape} and {self.group.shape}."
            )
        states = self.states
        if states is not None and (states.ndim != 3 or states.shape[:2] != shape or not states.shape[2]):
            raise ValueError(f"states must be [B, T, K >= 1] with [B, T] = {shape}, got {states.shape}.")


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """The input of a learner.

    Column l of every [R, L] array is about the prediction of `token_ids[:, l]`.

    A prompt of two tokens and a reply of two with advantage 0.5, padded to width 5:

    >>> is_reply = np.array([[False, False, True, True, False]])
    >>> batch = TokenBatch(
    ...     step=0,
    ...     token_ids=np.array([[10, 11, 20, 21, 0]]),
    ...     lengths=np.array([4]),
    ...     loss_mask=is_reply,
    ...     advantages=np.where(is_reply, np.float32(0.5), np.float32(0)),
    ...     behaviour_logprobs=np.array([[0, 0, -0.5, -1, 0]], dtype=np.float32),
    ...     turn_ids=np.where(is_reply, 0, -1),
    ...     group=np.array([0]),
    ...     loss_tokens=2,
    ...     loss_turns=1,
    ... )
    >>> batch.token_ids[batch.loss_mask].tolist(), batch.advantages[batch.loss_mask].tolist()
    ([20, 21], [0.5, 0.5])

    Attributes:
        step: step of the training loop.
        token_ids: [R, L] int32, right-padded.
        lengths: [R] int64, number of tokens of each row without padding.
        loss_mask: [R, L] bool, tokens sampled by the policy in a valid turn; column 0 is always False.
        advantages: [R, L] float32, the turn's advantage on each of its tokens, 0 elsewhere.
        behaviour_logprobs: [R, L] float32, nats, as reported by the engine, 0 outside the mask.
        turn_ids: [R, L] int32, a number unique to each trained turn of the batch, -1 outside the mask.
        group: [R] int64, the row's scenario group. Mini-batches never split a group.
        loss_tokens: trained tokens of the whole optimizer step over all micro-batches and ranks.
        loss_turns: trained turns of the whole optimizer step over all micro-batches and ranks.
        temperature: sampling temperature of the log probabilities.
    """

    step: int
    token_ids: np.ndarray
    lengths: np.ndarray
    loss_mask: np.ndarray
    advantages: np.ndarray
    behaviour_logprobs: np.ndarray
    turn_ids: np.ndarray
    group: np.ndarray
    loss_tokens: int
    loss_turns: int
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class PolicyWeights:
    """A version of the policy's weights, to load into the engines.

    >>> PolicyWeights(version=0, source="a bucket").version
    0
    """

    version: int
    """0 for the initial weights, plus 1 for every update."""
    source: object
    """The weights or a reference to them, opaque to the loop; rollout/weights.py resolves it."""


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """Outcome of one learner update.

    >>> UpdateReport(version=1, metrics={"grad_norm": 0.5}).metrics["grad_norm"]
    0.5
    """

    version: int
    """Version of the weights after the update."""
    metrics: Mapping[str, float]
    """Metric name to its value over the whole update."""
