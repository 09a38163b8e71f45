"""MICA's mixed advantage of returns and immediate rewards.

Return first, then normalize: the other order gives no credit to replies whose only effect is the length of
the dialogue. credit/returns.py and credit/normalize.py have the two steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mica_ray.checks import one_of, within
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

    Population std. The variance of A over a group is at most 1. `Mica(alpha=1)` uses only the turn part,
    `Mica(alpha=0)` only the group part.

    Dialogue 0 is rewarded at its second turn, and its first turn gets positive credit too:

    >>> turns = TurnRewards(np.array([[0.0, 1.0], [0.0, 0.0]]), np.ones((2, 2), bool), np.zeros(2, int))
    >>> Mica(alpha=1, gamma=1)(turns).round(3)    # returns (1, 1) and (0, 0): +1 and -1 at both turns
    array([[ 1.,  1.],
           [-1., -1.]])
    >>> Mica()(turns).round(2)    # group part of 0, 1, 0, 0: sqrt(3) for the 1, -1 / sqrt(3) for each 0
    array([[ 0.21,  1.37],
           [-0.79, -0.79]])
    """

    alpha: float = 0.5
    """Weight of the turn part, in [0, 1]."""
    gamma: float = 0.85
    """Discount per turn of the returns, in [0, 1]."""
    immediate_scope: Scope = "group"
    """Turns over which immediate rewards are compared: those of the group, or of the whole batch."""
    horizon: Horizon = "survivors"
    """"survivors": a turn is compared among the dialogues that reached it. "shortest": turns from T_min on,
    the length of the group's shortest dialogue with a valid turn, are not trained on and enter no statistic,
    but count in returns."""
    baseline: Baseline = "mean"
    """"mean" is the paper's and shrinks the gradient by 1 - 1/n. "leave_one_out" does not: unbiased with
    divide=False."""
    divide: bool = True
    """Whether to divide by the standard deviations."""
    lone_turn: LoneTurn = "zero"
    """Turn part of a turn that only one dialogue reached. "zero": 0. "group": the group part gets all weight.
    "return": the return itself, needed for an unbiased leave-one-out form (only with divide=False)."""

    def __post_init__(self) -> None:
        """Check names and ranges."""
        within(0, 1, alpha=self.alpha, gamma=self.gamma)
        one_of(get_args(Scope), immediate_scope=self.immediate_scope)
        one_of(get_args(Horizon), horizon=self.horizon)
        one_of(get_args(Baseline), baseline=self.baseline)
        one_of(get_args(LoneTurn), lone_turn=self.lone_turn)
        if self.lone_turn == "return" and self.divide:
            raise ValueError("lone_turn='return' needs divide=False, got True: a return is not a z-score.")

    @property
    def beta(self) -> float:
        """Weight of the group part."""
        return 1.0 - self.alpha

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Compute the advantage of every turn.

        Args:
            turns: rewards of one step.

        Returns:
            [B, T] float64, dimensionless if divided and otherwise in reward units, 0 where not valid.

        Raises:
            ValueError: a valid reward is not finite.
        """
        num_turns = turns.rewards.shape[1]
        valid = self.trained(turns)
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

    def trained(self, turns: TurnRewards) -> np.ndarray:
        """Return the turns that enter loss and statistics: [B, T] bool, the valid ones before the horizon."""
        return turns.valid & before_shortest(turns) if self.horizon == "shortest" else turns.valid


def before_shortest(turns: TurnRewards) -> np.ndarray:
    """Return whether every dialogue of the group reached each turn.

    A dialogue ends after its last valid turn. Dialogues without a valid turn are ignored.

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
