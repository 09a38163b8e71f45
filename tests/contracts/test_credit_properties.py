"""Properties of credit estimators by kind: shifts, other groups, single dialogues, failed groups.

Padding, order, equal lengths and scale are in test_credit_estimators.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.credit import Mica, ReinforcePlusPlus, ReturnToGo, TurnGae
from mica_ray.credit.returns import discounted_returns
from mica_ray.types import TurnRewards
from tests.contracts.test_credit_estimators import COMPARED_AT_ONE_TURN, ESTIMATORS, batches

IMMEDIATE_ONLY = [
    estimator
    for estimator in ESTIMATORS
    if estimator == ReinforcePlusPlus("batch_idr") or (isinstance(estimator, Mica) and estimator.alpha == 0)
]
"""Estimators of the immediate reward only, so a shift cancels at any lengths."""

ACROSS_TURNS = [estimator for estimator in ESTIMATORS if estimator not in COMPARED_AT_ONE_TURN]

ACROSS_GROUPS = [
    estimator
    for estimator in ESTIMATORS
    if isinstance(estimator, ReinforcePlusPlus | TurnGae)
    or "batch" in (getattr(estimator, name, "") for name in ("scope", "immediate_scope", "lone_baseline"))
]
"""Estimators that let one scenario's dialogues move another's credit, by their mean or their deviation."""

OF_A_GROUP = [estimator for estimator in ESTIMATORS if estimator not in ACROSS_GROUPS]

PAYING_LONE_TURNS = [
    estimator
    for estimator in OF_A_GROUP
    if getattr(estimator, "lone_turn", "") == "return" or isinstance(estimator, ReturnToGo)
]
"""Of these a turn that no sibling reached gets its return as it is: there is nothing to subtract."""


@settings(deadline=None, max_examples=30)
@given(batches(), st.integers(-9, 9))
def test_shift_of_immediate_rewards_changes_nothing_at_any_lengths(turns: TurnRewards, shift: int) -> None:
    moved = replace(turns, rewards=turns.rewards + shift)
    for estimator in IMMEDIATE_ONLY:
        # 1e-6: EPS aside, centring removes the shift up to rounding.
        np.testing.assert_allclose(estimator(moved), estimator(turns), atol=1e-6, err_msg=repr(estimator))


def test_shift_is_kept_where_returns_of_different_turns_are_compared() -> None:
    # All earn nothing, so there is nothing to credit. One point a turn more for all, and the return of turn 0
    # is above that of turn 1 everywhere: the first turn is praised for being the first.
    turns = TurnRewards(np.zeros((2, 2)), np.ones((2, 2), bool), np.zeros(2, np.int64))
    assert len(ACROSS_TURNS) > 0
    for estimator in ACROSS_TURNS:
        assert not estimator(turns).any(), estimator
        shifted = estimator(replace(turns, rewards=turns.rewards + 1))
        assert (shifted[:, 0] > 0).all() and (shifted[:, 1] < 0).all(), estimator


def test_shift_pays_for_length_where_lengths_differ() -> None:
    # All rewards are equal, and dialogue 0 lasts a turn longer. With a point a turn it earns more than the
    # other from turn 0 on, and is praised for it, by all that look further than the turn itself.
    valid = np.array([[True, True], [True, False]])
    states = np.broadcast_to(10.0 * np.arange(2)[:, None], (2, 2, 1))
    turns = TurnRewards(np.ones((2, 2)), valid, np.zeros(2, np.int64), states)
    for estimator in ESTIMATORS:
        praise = estimator(turns)[:, 0]
        assert (praise[0] == praise[1]) if estimator in IMMEDIATE_ONLY else (praise[0] > praise[1]), estimator


@settings(deadline=None, max_examples=30)
@given(batches(), st.integers(-9, 9))
def test_other_groups_never_matter_to_estimators_of_a_group(turns: TurnRewards, shift: int) -> None:
    is_other = turns.group != turns.group[0]
    moved = replace(turns, rewards=np.where(is_other[:, None], shift - 2 * turns.rewards, turns.rewards))
    for estimator in OF_A_GROUP:
        before, after = estimator(turns)[~is_other], estimator(moved)[~is_other]
        np.testing.assert_allclose(after, before, atol=1e-9, err_msg=repr(estimator))


@settings(deadline=None, max_examples=30)
@given(batches())
def test_lone_dialogue_gets_nothing_that_needs_siblings(turns: TurnRewards) -> None:
    # Every turn in a state of its own, so that a dialogue does not meet itself at an anchor either.
    states = 100.0 * np.arange(turns.rewards.size, dtype=np.float64).reshape(*turns.rewards.shape, 1)
    alone = replace(turns, group=np.arange(len(turns.group)), states=states)
    for estimator in OF_A_GROUP:
        advantages = estimator(alone)
        if estimator in PAYING_LONE_TURNS:
            gamma = getattr(estimator, "gamma", 1.0)
            returns = discounted_returns(turns.rewards, turns.valid, gamma=gamma)
            np.testing.assert_allclose(advantages, returns, atol=1e-9, err_msg=repr(estimator))
        # The rest compares a dialogue's own turns with each other, which sums to 0 over them.
        elif getattr(estimator, "alpha", 1.0) < 1 or getattr(estimator, "lone_turn", "zero") == "group":
            np.testing.assert_allclose(advantages.sum(axis=1), 0.0, atol=1e-9, err_msg=repr(estimator))
        else:
            assert not advantages.any(), estimator


@settings(deadline=None, max_examples=30)
@given(batches(), st.integers(1, 3), st.sampled_from([0.0, np.nan, -np.inf, 1e9]))
def test_group_without_a_valid_turn_gets_nothing_and_moves_nobody(
    turns: TurnRewards, num_lost: int, junk: float
) -> None:
    assert turns.states is not None
    shape = (num_lost, turns.rewards.shape[1])
    joined = TurnRewards(
        np.concatenate([np.full(shape, junk), turns.rewards]),
        np.concatenate([np.zeros(shape, bool), turns.valid]),
        np.concatenate([np.full(num_lost, -5), turns.group]),
        np.concatenate([np.full((*shape, 2), junk), turns.states]),
    )
    for estimator in ESTIMATORS:
        advantages = estimator(joined)
        assert not advantages[:num_lost].any(), estimator
        np.testing.assert_allclose(
            advantages[num_lost:], estimator(turns), atol=1e-9, err_msg=repr(estimator)
        )


@settings(deadline=None, max_examples=30)
@given(batches(), st.sampled_from([0.0, 1e-300, 1e-12, 1e12, 1e100]), st.sampled_from([0.0, 1.0, 1e12]))
def test_credit_is_a_number_at_any_size_of_rewards(turns: TurnRewards, size: float, offset: float) -> None:
    sized = replace(turns, rewards=turns.rewards * size + offset)
    for estimator in ESTIMATORS:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            advantages = estimator(sized)
        assert np.isfinite(advantages).all(), estimator


@settings(deadline=None, max_examples=30)
@given(batches(), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_valid_reward_that_is_no_number_is_refused(turns: TurnRewards, junk: float) -> None:
    valid, rewards = turns.valid.copy(), turns.rewards.copy()
    valid[0, 0], rewards[0, 0] = True, junk
    for estimator in ESTIMATORS:
        with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="finite where valid"):
            estimator(replace(turns, rewards=rewards, valid=valid))
