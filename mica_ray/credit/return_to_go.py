"""Return-to-go against the others at the same turn: no division, no group part, no bias at gamma = 1.

MICA's turn part with the paper's shrinkage taken out; a turn nobody else reached has an explicit rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mica_ray.credit.normalize import segment_sizes, standardize, turn_segments
from mica_ray.credit.returns import discounted_returns
from mica_ray.types import TurnRewards

LoneBaseline = Literal["batch", "none"]


@dataclass(frozen=True, slots=True)
class ReturnToGo:
    """Subtract from each return the mean of the siblings that reached the same turn.

        A[i, t] = G[i, t] - mean_{j != i} G[j, t],   G[i, t] = sum_{s >= t} gamma^(s - t) r[i, s]

    Leave-one-out as in RLOO (arXiv 2402.14740), turn by turn. What dialogue i is compared with does not
    depend on what i did, so at gamma = 1 the expected gradient is the true one; below 1 it is that of
    discounted returns. Where no sibling reached turn t, the other dialogues of the batch that did take their
    place, and where there is none either, nothing is subtracted: the return itself stays.
    """

    gamma: float = 1.0
    """Discount per turn, in [0, 1]."""
    lone_baseline: LoneBaseline = "batch"
    """Where no sibling reached the turn: the mean of the whole "batch" at that turn, or "none" at all."""

    def __post_init__(self) -> None:
        """Refuse a discount outside [0, 1] and an unknown baseline."""
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1]; got {self.gamma}")
        if self.lone_baseline not in get_args(LoneBaseline):
            allowed = ", ".join(get_args(LoneBaseline))
            raise ValueError(f"lone_baseline must be one of {allowed}; got {self.lone_baseline!r}")

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Give the advantage of every turn.

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
