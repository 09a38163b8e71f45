"""Anchor states: a reply is compared with what siblings replied in an equal state, not at an equal turn.

Needs `TurnRewards.states`. In free dialogue hardly two states are equal; `resolution` says what counts so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np

from mica_ray.credit.grpo import compare_dialogues, on_every_turn
from mica_ray.credit.normalize import Baseline, standardize
from mica_ray.credit.returns import discounted_returns
from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True)
class AnchorStates:
    """Add to the dialogue's comparison one among turns that began in one state (GiGPO, arXiv 2505.10978).

        A[i, t] = (R_i - mean_g) / (std_g + EPS)  +  weight * (G[i, t] - mean_a) / (std_a + EPS)

    a = the turns of the group, whatever their index, whose state before the reply is the same after rounding
    to multiples of `resolution`. A state met once gets no second part. A dialogue that comes back to a state
    meets itself there, so at variable lengths "leave_one_out" is only nearly unbiased. The state is read from
    the batch, because it belongs to the dialogues: see `TurnRewards.states`.
    """

    weight: float = 1.0
    """Of the comparison among equal states, >= 0."""
    gamma: float = 0.95
    """Discount per turn of its returns, in [0, 1]."""
    resolution: float = 0.0
    """Points: width of the cells within which states count as equal. 0: exactly equal."""
    baseline: Baseline = "mean"
    """What the returns of equal states are compared with."""
    divide: bool = True
    """Whether to divide by the standard deviations."""

    def __post_init__(self) -> None:
        """Refuse weights, discounts and widths outside their ranges."""
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1]; got {self.gamma}")
        for name, value in (("weight", self.weight), ("resolution", self.resolution)):
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be finite and >= 0; got {value}")
        if self.baseline not in get_args(Baseline):
            raise ValueError(
                f"baseline must be one of {', '.join(get_args(Baseline))}; got {self.baseline!r}"
            )

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Give the advantage of every turn.

        Args:
            turns: rewards and states of one step.

        Returns:
            [B, T] float64, no unit when divided and reward units when not, 0 where not valid.

        Raises:
            ValueError: there are no states, or one of a valid turn is not finite.
        """
        returns = discounted_returns(turns.rewards, turns.valid, gamma=self.gamma)
        segments = anchor_segments(turns, resolution=self.resolution)
        among_equals = standardize(
            returns, turns.valid, segments=segments, baseline=self.baseline, divide=self.divide
        )
        of_dialogue = compare_dialogues(turns, baseline=self.baseline, divide=self.divide)
        return on_every_turn(of_dialogue, turns.valid) + self.weight * among_equals


def anchor_segments(turns: TurnRewards, *, resolution: float) -> np.ndarray:
    """Number the pairs (group, state): who began a turn in the same state of one scenario.

    Args:
        turns: rewards and states of one step.
        resolution: points; states are rounded to its multiples, not at all when 0.

    Returns:
        [B, T] int64, codes from 0; 0 where not valid.

    Raises:
        ValueError: there are no states, or one of a valid turn is not finite.
    """
    states = valid_states(turns)
    key = np.round(states / resolution) if resolution > 0 else states
    group = np.unique(turns.group, return_inverse=True)[1]
    owner = np.broadcast_to(group[:, None], turns.valid.shape)[turns.valid]
    segments = np.zeros(turns.valid.shape, dtype=np.int64)
    # Adding 0 turns -0.0 into 0.0: the rows are compared as bytes.
    keyed = np.column_stack([owner, key + 0.0])
    segments[turns.valid] = np.unique(keyed, axis=0, return_inverse=True)[1].reshape(-1)
    return segments


def valid_states(turns: TurnRewards) -> np.ndarray:
    """Give the states of the valid turns, [V, K], in the order of `turns.valid`.

    Raises:
        ValueError: there are no states, or one of a valid turn is not finite.
    """
    if turns.states is None:
        raise ValueError("states must be given to this estimator; got TurnRewards.states=None")
    states = turns.states[turns.valid].astype(np.float64)
    if not np.isfinite(states).all():
        raise ValueError("states must be finite where valid")
    return states
