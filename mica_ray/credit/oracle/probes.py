"""Yes-or-no properties of an estimator, each tested on a batch of a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mica_ray.credit.estimator import CreditEstimator
from mica_ray.types import TurnRewards

VISIBLE = 1e-6
"""A difference of advantages below this is rounding; other systems use single precision."""


@dataclass(frozen=True, slots=True)
class Properties:
    """Properties of an estimator that do not depend on a process."""

    crosses_turns: bool
    """A reward at the last turn raises the credit of its dialogue's first turn above that of its siblings."""
    credits_length: bool
    """If every turn earns 1, the first turn of a longer dialogue gets more credit than a shorter one's."""
    tells_turns_apart: bool
    """A good and a bad turn of one dialogue get different credit."""
    keeps_zero_turns: bool
    """A reward of exactly 0 gets the same credit as one of 1e-7."""
    ignores_padding: bool
    """Padding columns do not change the credit."""
    ignores_order: bool
    """The order of the dialogues in the batch does not change the credit."""
    ignores_shift: bool
    """A constant added to all rewards of dialogues of equal length does not change the credit."""


def ask(estimator: CreditEstimator) -> Properties:
    """Test an estimator for all properties."""
    return Properties(
        crosses_turns=_crosses_turns(estimator),
        credits_length=_credits_length(estimator),
        tells_turns_apart=_tells_turns_apart(estimator),
        keeps_zero_turns=_keeps_zero_turns(estimator),
        ignores_padding=_ignores_padding(estimator),
        ignores_order=_ignores_order(estimator),
        ignores_shift=_ignores_shift(estimator),
    )


def _batch(rewards: list[list[float]], lengths: list[int] | None = None) -> TurnRewards:
    """Build a batch of one group, with the same state for all dialogues at the same turn."""
    filled = np.array(rewards)
    columns = np.arange(filled.shape[1], dtype=np.int64)
    reached = np.array(lengths if lengths is not None else [filled.shape[1]] * len(filled), dtype=np.int64)
    valid = columns < reached[:, None]
    states = np.broadcast_to(10.0 * columns[:, None], (*filled.shape, 1))
    return TurnRewards(filled, valid, np.zeros(len(filled), dtype=np.int64), states)


def _crosses_turns(estimator: CreditEstimator) -> bool:
    first = estimator(_batch([[0.5, 0.5, 1.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]))[:, 0]
    return bool(first[0] > first[1:].max() + VISIBLE)


def _credits_length(estimator: CreditEstimator) -> bool:
    ones = [[1.0, 1.0, 1.0]] * 3
    first = estimator(_batch(ones, lengths=[3, 1, 1]))[:, 0]
    return bool(first[0] > first[1:].max() + VISIBLE)


def _tells_turns_apart(estimator: CreditEstimator) -> bool:
    advantages = estimator(_batch([[2.0, -1.0], [-1.0, 1.0], [0.5, 0.5]]))
    return bool(abs(advantages[0, 0] - advantages[0, 1]) > VISIBLE)


def _keeps_zero_turns(estimator: CreditEstimator) -> bool:
    rewards = [[0.0, 2.0, 1.0], [-1.0, 0.0, 3.0], [1.0, -2.0, 0.5]]
    nudged = [[reward if reward else 1e-7 for reward in row] for row in rewards]
    difference = estimator(_batch(rewards)) - estimator(_batch(nudged))
    # Advantages are of order 1, so 1e-7 changes them by less than 1e-4 unless a turn appears or disappears.
    return bool(np.abs(difference).max() < 1e-4)


_RAGGED = [[0.0, 2.0, 1.0], [-1.0, 0.5, 3.0], [1.0, -2.0, 0.5], [2.0, 2.5, -1.0]]


def _ignores_padding(estimator: CreditEstimator) -> bool:
    turns = _batch(_RAGGED, lengths=[3, 2, 1, 3])
    wide = ((0, 0), (0, 2))
    assert turns.states is not None
    padded = TurnRewards(
        np.pad(turns.rewards, wide),
        np.pad(turns.valid, wide),
        turns.group,
        np.pad(turns.states, (*wide, (0, 0))),
    )
    return bool(np.abs(estimator(padded)[:, :3] - estimator(turns)).max() < VISIBLE)


def _ignores_order(estimator: CreditEstimator) -> bool:
    lengths, order = [3, 2, 1, 3], [2, 0, 3, 1]
    moved = _batch([_RAGGED[i] for i in order], lengths=[lengths[i] for i in order])
    return bool(np.abs(estimator(moved) - estimator(_batch(_RAGGED, lengths=lengths))[order]).max() < VISIBLE)


def _ignores_shift(estimator: CreditEstimator) -> bool:
    shifted = [[reward + 5.0 for reward in row] for row in _RAGGED]
    # 1e-4 covers EPS next to a standard deviation, and single precision.
    return bool(np.abs(estimator(_batch(shifted)) - estimator(_batch(_RAGGED))).max() < 1e-4)
