"""Return-to-go minus the mean of the siblings at the same turn; unbiased at gamma = 1.

MICA's turn part with a leave-one-out mean and without division (credit/mica.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mica_ray.checks import one_of, within
from mica_ray.credit.normalize import segment_sizes, standardize, turn_segments
from mica_ray.credit.returns import discounted_returns
from mica_ray.types import TurnRewards

LoneBaseline = Literal["batch", "none"]


@dataclass(frozen=True, slots=True)
class ReturnToGo:
    """Subtract from each return the mean return of the siblings that reached the same turn.

        A[i, t] = G[i, t] - mean_{j != i} G[j, t],   G[i, t] = sum_{s >= t} gamma^(s - t) r[i, s]

    Leave-one-out as in RLOO (arXiv 2402.14740), per turn. The baseline of dialogue i does not depend on its
    own replies, so at gamma = 1 the expected gradient is the policy gradient; below 1 it is the gradient of
    discounted returns. If no sibling reached turn t, the baseline is the mean over the other dialogues of the
    batch that did; if there are none either, it is 0.

    >>> turns = TurnRewards(np.array([[0.0, 4.0], [2.0, 0.0]]), np.ones((2, 2), bool), np.zeros(2, int))
    >>> ReturnToGo()(turns)    # returns (4, 4) and (2, 0)
    array([[ 2.,  4.],
           [-2., -4.]])
    """

    gamma: float = 1.0
    """Discount per turn, in [0, 1]."""
    lone_baseline: LoneBaseline = "batch"
    """Baseline if no sibling reached the turn: "batch", the mean of the batch at that turn, or "none"."""

    def __post_init__(self) -> None:
        """Check names and ranges."""
        within(0, 1, gamma=self.gamma)
        one_of(get_args(LoneBaseline), lone_baseline=self.lone_baseline)

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Compute the advantage of every turn.

        Args:
            turns: rewards of one step.

        Returns:
            [B, T] float64, reward units, 0 where not valid.

        Raises:
            ValueError: a valid reward is not finite.
        """
        num_turns = turns.rewards.shape[1]
        returns = discounted_returns(turns.rewards, turns.valid, gamma=self.gamma)
        advantages = returns
        scopes = [turn_segments(turns.group, num_turns)]
        if self.lone_baseline == "batch":
            scopes.insert(0, turn_segments(np.zeros_like(turns.group), num_turns))
        for segments in scopes:
            compared = standardize(
                returns, turns.valid, segments=segments, baseline="leave_one_out", divide=False
            )
            advantages = np.where(segment_sizes(turns.valid, segments) > 1, compared, advantages)
        return np.where(turns.valid, advantages, 0.0)
