"""Anchor states (GiGPO): compare turns that start in the same state.

Needs `TurnRewards.states`. In free dialogue two states are rarely equal; `resolution` rounds them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np

from mica_ray.checks import at_least, one_of, within
from mica_ray.credit.grpo import compare_dialogues, on_every_turn
from mica_ray.credit.normalize import Baseline, standardize
from mica_ray.credit.returns import discounted_returns
from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True)
class AnchorStates:
    """Add to GRPO's advantage a comparison among turns that start in the same state.

        A[i, t] = (R_i - mean_g) / (std_g + EPS)  +  weight * (G[i, t] - mean_a) / (std_a + EPS)
        GiGPO, arXiv 2505.10978

    a = the turns of the group, at any index, with the same state before the reply after rounding to multiples
    of `resolution`. The second part is 0 for a state that occurs once. A dialogue that returns to a state is
    compared with itself too, so with variable lengths "leave_one_out" is only nearly unbiased.

    >>> turns = TurnRewards(
    ...     np.array([[0.0, 1.0], [0.0, 0.0]]), np.ones((2, 2), bool), np.zeros(2, int),
    ...     states=np.array([[[-2.0], [-1.0]], [[-2.0], [-2.0]]]),
    ... )
    >>> AnchorStates(gamma=1, divide=False)(turns).round(2)    # at -2: returns 1, 0, 0; R - mean: 1/2, -1/2
    array([[ 1.17,  0.5 ],
           [-0.83, -0.83]])
    """

    weight: float = 1.0
    """Weight of the comparison among equal states, finite and >= 0."""
    gamma: float = 0.95
    """Discount per turn of the compared returns, in [0, 1]."""
    resolution: float = 0.0
    """Cell width in points within which states count as equal, finite. 0: exactly equal."""
    baseline: Baseline = "mean"
    """What is subtracted in both comparisons."""
    divide: bool = True
    """Whether to divide by the standard deviations."""

    def __post_init__(self) -> None:
        """Check names and ranges."""
        within(0, 1, gamma=self.gamma)
        at_least(0, weight=self.weight, resolution=self.resolution)
        if math.isinf(self.weight) or math.isinf(self.resolution):
            raise ValueError(f"weight and resolution must be finite, got {self.weight}, {self.resolution}.")
        one_of(get_args(Baseline), baseline=self.baseline)

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Compute the advantage of every turn.

        Args:
            turns: rewards and states of one step.

        Returns:
            [B, T] float64, dimensionless if divided and otherwise in reward units, 0 where not valid.

        Raises:
            ValueError: the states are missing, or a state of a valid turn is not finite.
        """
        returns = discounted_returns(turns.rewards, turns.valid, gamma=self.gamma)
        segments = anchor_segments(turns, resolution=self.resolution)
        among_equals = standardize(
            returns, turns.valid, segments=segments, baseline=self.baseline, divide=self.divide
        )
        of_dialogue = compare_dialogues(turns, baseline=self.baseline, divide=self.divide)
        return on_every_turn(of_dialogue, turns.valid) + self.weight * among_equals


def anchor_segments(turns: TurnRewards, *, resolution: float) -> np.ndarray:
    """Number the pairs (group, state).

    Turns of one scenario that start in the same state share a number.

    Args:
        turns: rewards and states of one step.
        resolution: points; states are rounded to its multiples, or not at all if 0.

    Returns:
        [B, T] int64, numbers from 0; 0 where not valid.

    Raises:
        ValueError: the states are missing, or a state of a valid turn is not finite.
    """
    states = valid_states(turns)
    key = np.round(states / resolution) if resolution > 0 else states
    group = np.unique(turns.group, return_inverse=True)[1]
    owner = np.broadcast_to(group[:, None], turns.valid.shape)[turns.valid]
    segments = np.zeros(turns.valid.shape, dtype=np.int64)
    # Adding 0 turns -0.0 into 0.0: np.unique compares the rows as bytes.
    keyed = np.column_stack([owner, key + 0.0])
    segments[turns.valid] = np.unique(keyed, axis=0, return_inverse=True)[1].reshape(-1)
    return segments


def valid_states(turns: TurnRewards) -> np.ndarray:
    """Return the states of the valid turns, [V, K], in the order of `turns.valid`.

    Raises:
        ValueError: the states are missing, or a state of a valid turn is not finite.
    """
    if turns.states is None:
        raise ValueError(
            "This estimator needs states, got TurnRewards.states=None. Pass the states, or choose an "
            "estimator that does not read them."
        )
    states = turns.states[turns.valid].astype(np.float64)
    if not np.isfinite(states).all():
        count = int((~np.isfinite(states)).any(axis=1).sum())
        raise ValueError(f"states must be finite where valid, got {count} turns with NaN or infinity.")
    return states
