"""MICA's mixed advantage: what a turn leads to, compared at the same turn, and what it earns at once.

Statistics live in normalize.py, returns in returns.py. Return first, then normalise: the other order gives no
credit to choices that act only through how long a dialogue lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mica_ray.credit.normalize import Baseline, group_segments, segment_sizes, standardize, turn_segments
from mica_ray.credit.returns import discounted_returns
from mica_ray.types import TurnRewards

Scope = Literal["group", "batch"]
Horizon = Literal["survivors", "shortest"]
LoneTurn = Literal["zero", "group", "return"]


@dataclass(frozen=True, slots=True)
class Mica:
    """Mix a turn-level and a group-level advantage.

        A[i, t] = alpha A_turn[i, t] + beta A_group[i, t],  beta = 1 - alpha     MICA, arXiv 2603.06194
        A_turn  = (G[i, t] - mean_t) / (std_t + EPS)    returns, over the group's dialogues at the same turn
        A_group = (r[i, t] - mean) / (std + EPS)        immediate rewards, over all turns of the group

    Population std. The variance of A over a group is at most 1. `Mica(alpha=1)` is turn-only, `Mica(alpha=0)`
    group-only.
    """

    alpha: float = 0.5
    """Weight of the turn part, in [0, 1]."""
    gamma: float = 0.85
    """Discount per turn of the returns, in [0, 1]."""
    immediate_scope: Scope = "group"
    """Whose immediate rewards are compared: all turns of the group, or of the whole batch."""
    horizon: Horizon = "survivors"
    """"survivors": a turn is compared with the dialogues that reach it. "shortest": turns from T_min on, the
    length of the group's shortest dialogue (failed dialogues apart), enter no statistic and get 0; returns
    still count them."""
    baseline: Baseline = "mean"
    """"mean" is the paper's and shrinks the gradient by 1 - 1/n; "leave_one_out" does not (unbiased with
    divide=False)."""
    divide: bool = True
    """Whether to divide by the standard deviations."""
    lone_turn: LoneTurn = "zero"
    """What a turn reached by one dialogue alone gets: "zero" for its turn part, the whole weight to the group
    part, or its "return" as it is, which alone leaves the leave-one-out form unbiased (divide=False only)."""

    def __post_init__(self) -> None:
        """Refuse weights, discounts and names outside their sets."""
        for name, value in (("alpha", self.alpha), ("gamma", self.gamma)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1]; got {value}")
        for name, value, allowed in (
            ("immediate_scope", self.immediate_scope, get_args(Scope)),
            ("horizon", self.horizon, get_args(Horizon)),
            ("baseline", self.baseline, get_args(Baseline)),
            ("lone_turn", self.lone_turn, get_args(LoneTurn)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
        if self.lone_turn == "return" and self.divide:
            raise ValueError("lone_turn='return' needs divide=False: a return is no z-score; got divide=True")

    @property
    def beta(self) -> float:
        """Weight of the group part."""
        return 1.0 - self.alpha

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Give the advantage of every turn.

        Args:
            turns: rewards of one step.

        Returns:
            [B, T] float64, no unit when divided and reward units when not, 0 where not valid.

        Raises:
            ValueError: a valid reward is not finite.
        """
        num_turns = turns.rewards.shape[1]
        valid = turns.valid & before_shortest(turns) if self.horizon == "shortest" else turns.valid
        same_turn = turn_segments(turns.group, num_turns)
        same_group = group_segments(turns.group, num_turns)
        scope = same_group if self.immediate_scope == "group" else np.zeros_like(same_group)
        returns = discounted_returns(turns.rewards, turns.valid, gamma=self.gamma)

        def compare(values: np.ndarray, segments: np.ndarray) -> np.ndarray:
            return standardize(values, valid, segments=segments, baseline=self.baseline, divide=self.divide)

        is_lone = segment_sizes(valid, same_turn) == 1
        alpha = np.where(is_lone & (self.lone_turn == "group"), 0.0, self.alpha)
        turn_part = compare(returns, same_turn)
        if self.lone_turn == "return":
            turn_part = np.where(is_lone & valid, returns, turn_part)
        return alpha * turn_part + (1.0 - alpha) * compare(turns.rewards, scope)


def before_shortest(turns: TurnRewards) -> np.ndarray:
    """Mark the turns that every dialogue of the group reached.

    A dialogue ends after its last valid turn; one without any valid turn shortens nobody.

    Args:
        turns: rewards of one step.

    Returns:
        [B, T] bool, True for turn indices t < T_min of the group.
    """
    num_turns = turns.valid.shape[1]
    columns = np.arange(num_turns, dtype=np.int64)
    ends = np.where(turns.valid, columns + 1, 0).max(axis=1, initial=0)
    codes = np.unique(turns.group, return_inverse=True)[1]
    shortest = np.full(int(codes.max(initial=-1)) + 1, num_turns)
    played = ends > 0
    np.minimum.at(shortest, codes[played], ends[played])
    return columns < shortest[codes][:, None]
