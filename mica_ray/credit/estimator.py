"""What a credit estimator looks like, and a check that any class one writes really is one."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mica_ray.types import TurnRewards

TOLERANCE = 1e-9
"""Advantages, no unit: room for the rounding of sums taken in another order."""


class CreditEstimator(Protocol):
    """Per-turn rewards -> per-turn advantages. Sees the whole batch; a pure function of it."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Give the advantages [B, T] float64, 0 where not valid."""
        ...


def check_estimator(estimator: CreditEstimator) -> None:
    """Check that an estimator keeps the promises the loop relies on.

    Shape, dtype, zero where not valid, no NaN on constant, lone or empty groups, and no dependence on the
    order of dialogues, the numbers of groups, padding columns, or what stands where a turn is not valid.

    Args:
        estimator: any callable of the protocol; called about ten times on batches of a few turns.

    Raises:
        ValueError: a promise is broken; the message names the estimator and the promise.
    """
    for name, turns in _corner_cases().items():
        _check_values(estimator, turns, name)
    _check_invariances(estimator, _mixed_batch())


def _require(condition: bool, estimator: CreditEstimator, promise: str) -> None:
    if not condition:
        raise ValueError(f"{estimator!r} is no credit estimator: {promise}")


def _check_values(estimator: CreditEstimator, turns: TurnRewards, name: str) -> None:
    rewards, valid, group = turns.rewards.copy(), turns.valid.copy(), turns.group.copy()
    advantages = estimator(turns)
    got = (type(advantages).__name__, np.shape(advantages), str(getattr(advantages, "dtype", None)))
    expected = ("ndarray", valid.shape, "float64")
    _require(got == expected, estimator, f"must return {expected} ({name}); got {got}")
    _require(bool(np.isfinite(advantages).all()), estimator, f"advantages must be finite ({name})")
    _require(not advantages[~valid].any(), estimator, f"advantages must be 0 where not valid ({name})")
    untouched = (
        np.array_equal(turns.rewards, rewards, equal_nan=True)
        and np.array_equal(turns.valid, valid)
        and np.array_equal(turns.group, group)
    )
    _require(untouched, estimator, f"must not write into its input ({name})")


def _check_invariances(estimator: CreditEstimator, turns: TurnRewards) -> None:
    expected = estimator(turns)
    num_dialogues = len(turns.group)

    def agrees(other: TurnRewards, promise: str, rows: np.ndarray) -> None:
        got = estimator(other)[:, : expected.shape[1]]
        _require(np.allclose(got, expected[rows], rtol=0, atol=TOLERANCE), estimator, promise)

    same = np.arange(num_dialogues)
    agrees(turns, "must give equal advantages for equal rewards", same)
    order = np.roll(same, 3)[::-1]
    shuffled = TurnRewards(turns.rewards[order], turns.valid[order], turns.group[order])
    agrees(shuffled, "the order of dialogues must not matter", order)
    renamed = TurnRewards(turns.rewards, turns.valid, 1000 - 7 * turns.group)
    agrees(renamed, "the numbers of groups must not matter", same)
    junk = np.where(turns.valid, turns.rewards, np.nan)
    agrees(TurnRewards(junk, turns.valid, turns.group), "rewards that are not valid must not matter", same)
    width = ((0, 0), (0, 2))
    wider = np.pad(turns.rewards, width, constant_values=9.0)
    agrees(
        TurnRewards(wider, np.pad(turns.valid, width), turns.group), "padding columns must not matter", same
    )


def _mixed_batch() -> TurnRewards:
    # Three groups, one of a single dialogue; unequal lengths, one hole, one dialogue without any valid turn.
    generator = np.random.default_rng(0)
    lengths = np.array([4, 2, 3, 0, 1, 4, 4, 3])
    valid = np.arange(4) < lengths[:, None]
    valid[0, 1] = False
    return TurnRewards(generator.normal(size=(8, 4)), valid, np.array([0, 0, 0, 0, 1, 1, 1, 2]))


def _corner_cases() -> dict[str, TurnRewards]:
    mixed = _mixed_batch()
    everything = np.ones((4, 3), dtype=bool)
    one_group = np.zeros(4, dtype=np.int64)
    return {
        "mixed batch": mixed,
        "constant rewards": TurnRewards(np.full((4, 3), 0.1), everything, one_group),
        "single-member groups": TurnRewards(np.arange(12.0).reshape(4, 3), everything, np.arange(4)),
        "no valid turn": TurnRewards(mixed.rewards, np.zeros_like(mixed.valid), mixed.group),
        "not a number where not valid": TurnRewards(
            np.where(mixed.valid, mixed.rewards, np.nan), mixed.valid, mixed.group
        ),
        "no turns": TurnRewards(np.zeros((4, 0)), np.zeros((4, 0), dtype=bool), one_group),
        "no dialogues": TurnRewards(np.zeros((0, 3)), np.zeros((0, 3), dtype=bool), one_group[:0]),
    }
