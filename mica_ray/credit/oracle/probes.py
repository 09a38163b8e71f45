"""Yes-or-no questions to an estimator, each answered by a batch of a few numbers; no randomness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mica_ray.credit.estimator import CreditEstimator
from mica_ray.types import TurnRewards

VISIBLE = 1e-6
"""Advantages: a difference below this is rounding (single precision in estimators of others)."""


@dataclass(frozen=True, slots=True)
class Properties:
    """What an estimator does to credit, apart from any process."""

    crosses_turns: bool
    """A reward at the last turn raises the credit of the first turn of its dialogue over its siblings'."""
    credits_length: bool
    """Where every turn earns 1, the first turn of the longer dialogue is praised over the shorter's."""
    tells_turns_apart: bool
    """A dialogue that did well at one turn and badly at another is not given the same for both."""
    keeps_zero_turns: bool
    """A reward of exactly 0 gets the credit of one of 1e-7."""
    ignores_padding: bool
    ignores_order: bool
    """Of the dialogues in the batch."""
    ignores_shift: bool
    """The same constant on all rewards of dialogues of one length changes nothing."""


def ask(estimator: CreditEstimator) -> Properties:
    """Ask an estimator all questions."""
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
    """Give one group; all dialogues are seen in the same state at the same turn."""
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
    # Advantages are of size one; 1e-7 moves none by more than this, unless a turn appears or disappears.
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
    # 1e-4: the EPS beside a deviation, and single precision.
    return bool(np.abs(estimator(_batch(shifted)) - estimator(_batch(_RAGGED))).max() < 1e-4)
