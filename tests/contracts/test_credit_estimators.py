"""Every credit estimator keeps the rules of the protocol; the check finds those that do not."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray import credit
from mica_ray.credit import (
    AnchorStates,
    CreditEstimator,
    Grpo,
    LambdaReturns,
    Mica,
    ReinforcePlusPlus,
    ReturnToGo,
    Rloo,
    TurnGae,
    check_estimator,
)
from mica_ray.types import TurnRewards

ESTIMATORS: list[CreditEstimator] = [
    Mica(),
    Mica(alpha=1.0),
    Mica(alpha=0.0),
    Mica(alpha=0.0, immediate_scope="batch"),
    Mica(alpha=1.0, horizon="shortest"),
    Mica(alpha=1.0, lone_turn="group"),
    Mica(baseline="leave_one_out", divide=False),
    Mica(alpha=1.0, gamma=1.0, baseline="leave_one_out", divide=False, lone_turn="return"),
    Grpo(),
    Grpo(divide=False),
    Rloo(),
    ReinforcePlusPlus("trajectory"),
    ReinforcePlusPlus("batch_idr"),
    ReinforcePlusPlus("baseline"),
    ReturnToGo(),
    ReturnToGo(gamma=0.9, lone_baseline="none"),
    AnchorStates(),
    AnchorStates(resolution=2.0, baseline="leave_one_out", divide=False),
    TurnGae(),
    TurnGae(lam=0.0, whiten=False),
    LambdaReturns(turn_lambda=0.9),
    LambdaReturns(turn_lambda=0.0, group_lambda=1.0, scope="batch"),
    LambdaReturns(baseline="leave_one_out", divide=False),
]

DIVIDED = [
    estimator
    for estimator in ESTIMATORS
    if getattr(estimator, "divide", True) and getattr(estimator, "whiten", True)
    if not isinstance(estimator, Rloo | ReturnToGo)
]
"""Estimators whose advantages have no unit; those of the others are in reward units."""

COMPARED_AT_ONE_TURN = [estimator for estimator in ESTIMATORS if getattr(estimator, "group_lambda", 0.0) == 0]
"""Estimators that compare returns only at the same turn or state, apart from immediate rewards.

A shift of all rewards raises every return by the shift times the number of turns left. Dialogues of equal
length at the same turn get the same increase, which the comparison removes. Comparing returns of different
turns (`group_lambda` above 0) keeps it.
"""


def test_every_estimator_of_the_package_is_tested_here() -> None:
    offered = {item for name in credit.__all__ if isinstance(item := getattr(credit, name), type)}
    assert {type(estimator) for estimator in ESTIMATORS} == offered - {CreditEstimator}


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_estimator_keeps_the_promises(estimator: CreditEstimator) -> None:
    check_estimator(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_estimator_travels_by_value(estimator: CreditEstimator) -> None:
    assert pickle.loads(pickle.dumps(estimator)) == estimator


@pytest.mark.parametrize("estimator", COMPARED_AT_ONE_TURN, ids=repr)
def test_constant_batch_gets_exactly_zero_credit(estimator: CreditEstimator) -> None:
    constant = np.full((6, 3), 0.1)
    states = np.broadcast_to(10.0 * np.arange(3)[:, None], (6, 3, 1))
    turns = TurnRewards(constant, np.ones((6, 3), bool), np.array([0, 0, 0, 1, 1, 1]), states)
    np.testing.assert_array_equal(estimator(turns), np.zeros((6, 3)))


@st.composite
def batches(draw: st.DrawFn) -> TurnRewards:
    """Whole-number rewards and states, ragged dialogues with holes, up to three groups."""
    num_dialogues, num_turns = draw(st.integers(2, 6)), draw(st.integers(1, 4))
    shape = (num_dialogues, num_turns)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    valid = (np.arange(num_turns) < generator.integers(0, num_turns + 1, size=(num_dialogues, 1))) & (
        generator.random(shape) > 0.2
    )
    return TurnRewards(
        generator.integers(-4, 5, size=shape).astype(np.float64),
        valid,
        generator.integers(0, 3, size=num_dialogues),
        generator.integers(-2, 1, size=(*shape, 2)).astype(np.float64),
    )


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@settings(deadline=None, max_examples=30)
@given(batches(), st.integers(0, 99), st.sampled_from([np.nan, np.inf, 1e9]))
def test_padding_order_and_junk_never_matter(
    estimator: CreditEstimator, turns: TurnRewards, seed: int, junk: float
) -> None:
    order = np.random.default_rng(seed).permutation(len(turns.group))
    assert turns.states is not None
    wide = ((0, 0), (0, 1))
    moved = TurnRewards(
        np.pad(np.where(turns.valid, turns.rewards, junk), wide, constant_values=junk)[order],
        np.pad(turns.valid, wide)[order],
        turns.group[order] + 7,
        np.pad(np.where(turns.valid[..., None], turns.states, junk), (*wide, (0, 0)))[order],
    )
    advantages = estimator(turns)
    assert np.isfinite(advantages).all()
    assert not advantages[~turns.valid].any()
    # 1e-7: sums in another order, and the slopes of a critic that few points determine badly.
    np.testing.assert_allclose(estimator(moved)[:, :-1], advantages[order], atol=1e-7)


@pytest.mark.parametrize("estimator", COMPARED_AT_ONE_TURN, ids=repr)
@settings(deadline=None, max_examples=30)
@given(batches(), st.integers(-9, 9))
def test_shift_of_all_rewards_changes_nothing_at_equal_lengths(
    estimator: CreditEstimator, turns: TurnRewards, shift: int
) -> None:
    # With unequal lengths a shift pays or fines every further turn: another task, and no invariance. A state
    # that is the turn index is known to all alike. Two dialogues a group: a lone return would keep the shift.
    num_dialogues, num_turns = turns.rewards.shape
    states = np.broadcast_to(10.0 * np.arange(num_turns)[:, None], (num_dialogues, num_turns, 1))
    group = np.arange(num_dialogues) // 2 if num_dialogues % 2 == 0 else np.zeros(num_dialogues, np.int64)
    whole = TurnRewards(turns.rewards, np.ones_like(turns.valid), group, states)
    moved = replace(whole, rewards=whole.rewards + shift)
    # 1e-6: EPS aside, centring removes the shift up to rounding.
    np.testing.assert_allclose(estimator(moved), estimator(whole), atol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@settings(deadline=None, max_examples=30)
@given(batches(), st.sampled_from([0.5, 2.0, 16.0]))
def test_scale_of_rewards_is_kept_or_divided_out(
    estimator: CreditEstimator, turns: TurnRewards, scale: float
) -> None:
    # Discounted returns may lie close together: so large that EPS, which does not scale, is nothing.
    large = turns.rewards * 2.0**20
    scaled = estimator(replace(turns, rewards=large * scale))
    expected = estimator(replace(turns, rewards=large)) * (1.0 if estimator in DIVIDED else scale)
    np.testing.assert_allclose(scaled, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("estimator", [AnchorStates(), TurnGae()], ids=repr)
def test_estimator_that_reads_states_says_when_there_are_none(estimator: CreditEstimator) -> None:
    turns = TurnRewards(np.zeros((2, 1)), np.ones((2, 1), bool), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match=r"needs states, got TurnRewards\.states=None"):
        estimator(turns)


@dataclass(frozen=True)
class Raw:
    """Credits a turn with its own reward and forgets the mask."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        return turns.rewards.astype(np.float64)


@dataclass(frozen=True)
class Padded:
    """Includes padding in the mean."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        filled = np.where(turns.valid, turns.rewards, 0.0)
        mean = filled.sum() / max(filled.size, 1)
        return np.where(turns.valid, filled - mean, 0.0)


@dataclass(frozen=True)
class FirstIsBest:
    """Depends on the order of the dialogues."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        rank = -np.arange(len(turns.group), dtype=np.float64)
        return np.where(turns.valid, rank[:, None], 0.0)


@dataclass(frozen=True)
class Divider:
    """Divides by a deviation that can be zero."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        rewards = np.where(turns.valid, turns.rewards, 0.0)
        with np.errstate(all="ignore"):
            spread = rewards.max(initial=-99) - rewards.min(initial=99)
            return np.where(turns.valid, rewards / spread, 0.0)


@dataclass(frozen=True)
class Writer:
    """Zeroes its own input."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        turns.rewards[~turns.valid] = 0.0
        return np.zeros(turns.rewards.shape)


@dataclass(frozen=True)
class PerDialogue:
    """Returns one number per dialogue instead of one per turn."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        return np.zeros(len(turns.group))


@pytest.mark.parametrize(
    ("impostor", "promise"),
    [
        (Raw(), "0 where not valid"),
        (Padded(), "padding columns"),
        (FirstIsBest(), "order of dialogues"),
        (Divider(), "finite"),
        (Writer(), "write into its input"),
        (PerDialogue(), "must return"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_check_names_the_broken_promise(impostor: CreditEstimator, promise: str) -> None:
    with pytest.raises(ValueError, match=promise):
        check_estimator(impostor)
