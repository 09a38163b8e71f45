"""The protocol of credit estimators, and a check that a class of your own keeps it."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from mica_ray.types import TurnRewards

TOLERANCE = 1e-9
"""Tolerance of advantages: rounding of sums in another order."""


class CreditEstimator(Protocol):
    """Computes per-turn advantages from per-turn rewards: a pure function of the whole batch."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Return the advantages, [B, T] float64, 0 where not valid."""
        ...


@runtime_checkable
class SelectiveEstimator(CreditEstimator, Protocol):
    """An estimator that leaves valid turns out of the training."""

    def trained(self, turns: TurnRewards) -> np.ndarray:
        """Return the turns to train on: [B, T] bool, some of the valid ones."""
        ...


def trained_turns(estimator: CreditEstimator, turns: TurnRewards) -> np.ndarray:
    """Return the turns whose tokens enter loss, token count and KL: [B, T] bool, or else the valid ones."""
    return estimator.trained(turns) if isinstance(estimator, SelectiveEstimator) else turns.valid


def check_estimator(estimator: CreditEstimator) -> None:
    """Check that an estimator keeps the rules that the training loop relies on.

    Checks shape and dtype; 0 where not valid or not trained on; no NaN for constant, single-member or empty
    groups; no dependence on the order of dialogues, the numbers of groups, padding columns, or values where a
    turn is not valid. Every batch has states, which an estimator may ignore.

    >>> check_estimator(lambda turns: turns.rewards)
    Traceback (most recent call last):
    ValueError: <function <lambda> at ...> is not a valid credit estimator: ...

    Args:
        estimator: any callable of the protocol; called about 15 times on batches of a few turns.

    Raises:
        ValueError: a rule is broken; the message names the estimator and the rule.
    """
    for name, turns in _corner_cases().items():
        _check_values(estimator, turns, name)
    _check_invariances(estimator, _mixed_batch())


def _require(condition: bool, estimator: CreditEstimator, rule: str) -> None:
    if not condition:
        raise ValueError(f"{estimator!r} is not a valid credit estimator: {rule}.")


def _check_values(estimator: CreditEstimator, turns: TurnRewards, name: str) -> None:
    rewards, valid, group = turns.rewards.copy(), turns.valid.copy(), turns.group.copy()
    states = None if turns.states is None else turns.states.copy()
    advantages = estimator(turns)
    got = (type(advantages).__name__, np.shape(advantages), str(getattr(advantages, "dtype", None)))
    expected = ("ndarray", valid.shape, "float64")
    _require(got == expected, estimator, f"it must return {expected}, got {got} ({name})")
    _require(bool(np.isfinite(advantages).all()), estimator, f"advantages must be finite ({name})")
    trained = trained_turns(estimator, turns)
    _require(not (trained & ~valid).any(), estimator, f"only valid turns can be trained on ({name})")
    _require(not advantages[~trained].any(), estimator, f"advantages must be 0 where not trained on ({name})")
    untouched = (
        np.array_equal(turns.rewards, rewards, equal_nan=True)
        and np.array_equal(turns.valid, valid)
        and np.array_equal(turns.group, group)
    )
    if turns.states is not None and states is not None:
        untouched = untouched and np.array_equal(turns.states, states, equal_nan=True)
    _require(untouched, estimator, f"it must not write into its input ({name})")


def _check_invariances(estimator: CreditEstimator, turns: TurnRewards) -> None:
    expected = estimator(turns)
    num_dialogues = len(turns.group)

    def check_same(other: TurnRewards, rule: str, rows: np.ndarray) -> None:
        got = estimator(other)[:, : expected.shape[1]]
        _require(np.allclose(got, expected[rows], rtol=0, atol=TOLERANCE), estimator, rule)

    same = np.arange(num_dialogues)
    check_same(turns, "equal batches must get equal advantages", same)
    order = np.roll(same, 3)[::-1]
    check_same(_reordered(turns, order), "the order of dialogues must not matter", order)
    renamed = replace(turns, group=1000 - 7 * turns.group)
    check_same(renamed, "the numbers of groups must not matter", same)
    check_same(_with_nan(turns), "values where a turn is not valid must not matter", same)
    check_same(_widened(turns), "padding columns must not matter", same)


def _reordered(turns: TurnRewards, order: np.ndarray) -> TurnRewards:
    states = None if turns.states is None else turns.states[order]
    return TurnRewards(turns.rewards[order], turns.valid[order], turns.group[order], states)


def _with_nan(turns: TurnRewards) -> TurnRewards:
    states = None if turns.states is None else np.where(turns.valid[..., None], turns.states, np.nan)
    return replace(turns, rewards=np.where(turns.valid, turns.rewards, np.nan), states=states)


def _widened(turns: TurnRewards) -> TurnRewards:
    width = ((0, 0), (0, 2))
    states = None if turns.states is None else np.pad(turns.states, (*width, (0, 0)), constant_values=9.0)
    rewards = np.pad(turns.rewards, width, constant_values=9.0)
    return TurnRewards(rewards, np.pad(turns.valid, width), turns.group, states)


def _with_states(rewards: np.ndarray, valid: np.ndarray, group: np.ndarray) -> TurnRewards:
    # Whole points, so that some turns share a state and others do not.
    states = np.random.default_rng(1).integers(-3, 0, size=(*rewards.shape, 2)).astype(np.float64)
    return TurnRewards(rewards, valid, group, states)


def _mixed_batch() -> TurnRewards:
    # Three groups, one of a single dialogue; unequal lengths, one hole, one dialogue without any valid turn.
    generator = np.random.default_rng(0)
    lengths = np.array([4, 2, 3, 0, 1, 4, 4, 3])
    valid = np.arange(4) < lengths[:, None]
    valid[0, 1] = False
    return _with_states(generator.normal(size=(8, 4)), valid, np.array([0, 0, 0, 0, 1, 1, 1, 2]))


def _corner_cases() -> dict[str, TurnRewards]:
    mixed = _mixed_batch()
    everything = np.ones((4, 3), dtype=bool)
    one_group = np.zeros(4, dtype=np.int64)
    return {
        "mixed batch": mixed,
        "constant rewards": _with_states(np.full((4, 3), 0.1), everything, one_group),
        "single-member groups": _with_states(np.arange(12.0).reshape(4, 3), everything, np.arange(4)),
        "no valid turn": replace(mixed, valid=np.zeros_like(mixed.valid)),
        "NaN where not valid": _with_nan(mixed),
        "one turn": _with_states(np.arange(4.0)[:, None], everything[:, :1], one_group),
        "one dialogue": _with_states(np.arange(3.0)[None], everything[:1], one_group[:1]),
        "no turns": _with_states(np.zeros((4, 0)), np.zeros((4, 0), dtype=bool), one_group),
        "no dialogues": _with_states(np.zeros((0, 3)), np.zeros((0, 3), dtype=bool), one_group[:0]),
    }
