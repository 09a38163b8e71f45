"""MICA's mixed advantage, derived by hand, and its invariances."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.credit import Grpo, Mica
from mica_ray.credit.estimator import trained_turns
from mica_ray.credit.mica import before_shortest
from mica_ray.types import TurnRewards


def batch(rewards: list[list[float | None]], group: list[int] | None = None) -> TurnRewards:
    """Build a batch; None is a turn that was not played or judged, with an arbitrary reward of 99."""
    valid = np.array([[reward is not None for reward in row] for row in rewards])
    filled = np.array([[99.0 if reward is None else reward for reward in row] for row in rewards])
    return TurnRewards(filled, valid, np.array(group if group is not None else [0] * len(rewards)))


def test_credit_crosses_turns() -> None:
    # Only dialogue 0 is rewarded, at turn 1; its turn 0 must get positive credit too.
    # Returns [[1, 1], [0, 0]] -> z = +1, -1 in both turns.
    advantages = Mica(alpha=1.0, gamma=1.0)(batch([[0.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(advantages, [[1, 1], [-1, -1]], atol=1e-5)


def test_group_part_compares_immediate_rewards_over_all_turns() -> None:
    # Rewards 0, 1, 0, 0: mean 1/4, std sqrt(3)/4 -> z = 3/sqrt(3) for the 1, -1/sqrt(3) for the zeros.
    advantages = Mica(alpha=0.0)(batch([[0.0, 1.0], [0.0, 0.0]]))
    low, high = -1 / np.sqrt(3), np.sqrt(3)
    np.testing.assert_allclose(advantages, [[low, high], [low, low]], atol=1e-5)


def test_mix_is_the_weighted_sum_of_its_parts() -> None:
    turns = batch([[1.0, 2.0, None], [0.0, -1.0, 3.0], [2.0, None, None]])
    turn, group, mixed = Mica(alpha=1.0)(turns), Mica(alpha=0.0)(turns), Mica(alpha=0.3)(turns)
    np.testing.assert_allclose(mixed, 0.3 * turn + 0.7 * group, atol=1e-12)
    assert Mica(alpha=0.3).beta == pytest.approx(0.7)


def test_discounted_mixed_advantage_by_hand() -> None:
    # gamma 0.5: returns [[1 + .5*2, 2], [0 + .5*0, 0]] = [[2, 2], [0, 0]] -> z = 1, 1, -1, -1.
    # Immediate 1, 2, 0, 0: mean 3/4, mean square 5/4, std sqrt(5/4 - 9/16) = sqrt(11)/4,
    # so z = (1, 5, -3, -3) / sqrt(11).
    advantages = Mica(alpha=0.5, gamma=0.5)(batch([[1.0, 2.0], [0.0, 0.0]]))
    expected = 0.5 * np.array([[1, 1], [-1, -1]]) + 0.5 * np.array([[1, 5], [-3, -3]]) / np.sqrt(11)
    np.testing.assert_allclose(advantages, expected, atol=1e-5)


def test_survivors_are_compared_with_survivors() -> None:
    # Turn 1 is reached by two of three: returns 5 and 1 -> z = +1, -1; the third is not in its mean.
    advantages = Mica(alpha=1.0, gamma=0.0)(batch([[0.0, 5.0], [0.0, 1.0], [0.0, None]]))
    np.testing.assert_allclose(advantages, [[0, 1], [0, -1], [0, 0]], atol=1e-5)


def test_shortest_horizon_leaves_the_tails_out_but_not_out_of_the_return() -> None:
    # T_min = 1 (the third dialogue). Turn 0 with gamma 1: returns 4, 2, 0 -> (4 - 2) / sqrt(8/3).
    turns = batch([[0.0, 4.0], [0.0, 2.0], [0.0, None]])
    advantages = Mica(alpha=1.0, gamma=1.0, horizon="shortest")(turns)
    high = 2 / np.sqrt(8 / 3)
    np.testing.assert_allclose(advantages, [[high, 0], [0, 0], [-high, 0]], atol=1e-5)


def test_turns_beyond_the_shortest_dialogue_are_not_trained_on() -> None:
    turns = batch([[0.0, 4.0], [None, 2.0], [0.0, None]])
    shortest = [[True, False], [False, False], [True, False]]
    np.testing.assert_array_equal(Mica(horizon="shortest").trained(turns), shortest)
    np.testing.assert_array_equal(trained_turns(Mica(horizon="shortest"), turns), shortest)
    np.testing.assert_array_equal(trained_turns(Mica(), turns), turns.valid)
    np.testing.assert_array_equal(trained_turns(Grpo(), turns), turns.valid)


def test_failed_dialogue_does_not_shorten_its_group() -> None:
    turns = batch([[1.0, 2.0], [1.0, 3.0], [None, None], [1.0, None]], group=[0, 0, 0, 1])
    expected = [[True, True], [True, True], [True, True], [True, False]]
    np.testing.assert_array_equal(before_shortest(turns), expected)


def test_batch_scope_compares_immediate_rewards_of_all_groups() -> None:
    # Two groups, each constant: z = 0 inside a group; 0 against 2 -> z = -1, +1 in the batch.
    turns = batch([[0.0], [0.0], [2.0], [2.0]], group=[0, 0, 1, 1])
    np.testing.assert_array_equal(Mica(alpha=0.0)(turns), np.zeros((4, 1)))
    scoped = Mica(alpha=0.0, immediate_scope="batch")(turns)
    np.testing.assert_allclose(scoped, [[-1], [-1], [1], [1]], atol=1e-5)


def test_lone_turn_gets_no_turn_part_or_the_whole_group_part() -> None:
    # Rewards 0, 3, 0 in one group; only the first dialogue reaches turn 1. Group z of 3: 2 / sqrt(2).
    turns = batch([[0.0, 3.0], [0.0, None]])
    z = 2 / np.sqrt(2)
    assert Mica(alpha=0.5, lone_turn="zero")(turns)[0, 1] == pytest.approx(0.5 * z, abs=1e-5)
    assert Mica(alpha=0.5, lone_turn="group")(turns)[0, 1] == pytest.approx(z, abs=1e-5)
    assert Mica(alpha=1.0, lone_turn="zero")(turns)[0, 1] == 0.0


def test_zero_reward_turn_is_a_turn() -> None:
    # Rewards -1 and 0: the zero is the better one and must get positive credit.
    np.testing.assert_allclose(Mica(alpha=0.0)(batch([[-1.0], [0.0]])), [[-1], [1]], atol=1e-5)


def test_failed_judgement_is_not_a_zero() -> None:
    # The hole enters no mean: the two valid rewards 2 and 4 give -1, +1 and nothing else.
    advantages = Mica(alpha=0.0)(batch([[2.0, None], [4.0, None]]))
    np.testing.assert_allclose(advantages, [[-1, 0], [1, 0]], atol=1e-5)


def test_credit_reaches_choices_that_act_only_through_length() -> None:
    # Every turn earns 1. Normalised first, rewards would be 0 everywhere; the return 2 beats the return 1.
    advantages = Mica(alpha=1.0, gamma=1.0)(batch([[1.0, 1.0], [1.0, None]]))
    np.testing.assert_allclose(advantages[:, 0], [1, -1], atol=1e-5)


def test_single_dialogue_group_gets_zero_turn_advantage() -> None:
    np.testing.assert_array_equal(Mica(alpha=1.0)(batch([[1.0, 5.0]])), [[0.0, 0.0]])


@pytest.mark.parametrize("field", ["alpha", "gamma"])
@pytest.mark.parametrize("value", [-0.1, 1.2, float("nan")])
def test_weight_outside_the_unit_interval_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be in \[0, 1\], got {value}"):
        Mica(**{field: value})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("field", ["immediate_scope", "horizon", "baseline", "lone_turn"])
def test_unknown_choice_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be '.*', got 'none'"):
        Mica(**{field: "none"})  # pyright: ignore[reportArgumentType]


reward_rows = st.lists(
    st.lists(st.integers(-9, 9).map(float), min_size=0, max_size=4), min_size=2, max_size=6
)


def ragged(rows: list[list[float]], group: np.ndarray) -> TurnRewards:
    width = max(map(len, rows))
    padded: list[list[float | None]] = [[*row, *[None] * (width - len(row))] for row in rows]
    valid = np.array([[reward is not None for reward in row] for row in padded], dtype=bool)
    filled = np.array([[0.0 if reward is None else reward for reward in row] for row in padded])
    return TurnRewards(filled, valid, group)


@settings(deadline=None, max_examples=60)
@given(reward_rows, st.floats(0, 1), st.floats(-50, 50))
def test_shift_of_all_rewards_leaves_the_immediate_part(
    rows: list[list[float]], alpha: float, shift: float
) -> None:
    turns = ragged(rows, np.zeros(len(rows), np.int64))
    moved = TurnRewards(turns.rewards + shift, turns.valid, turns.group)
    # 1e-6: EPS aside, centring removes the shift up to rounding.
    np.testing.assert_allclose(Mica(alpha=0.0)(moved), Mica(alpha=0.0)(turns), atol=1e-6)
    if len(set(map(len, rows))) == 1:  # Equal lengths: returns shift alike at each turn.
        np.testing.assert_allclose(Mica(alpha=alpha)(moved), Mica(alpha=alpha)(turns), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(reward_rows, st.floats(0, 1), st.sampled_from(["survivors", "shortest"]))
def test_variance_of_the_mix_is_at_most_one(rows: list[list[float]], alpha: float, horizon: str) -> None:
    turns = ragged(rows, np.zeros(len(rows), np.int64))
    estimator = Mica(alpha=alpha, horizon=horizon)  # pyright: ignore[reportArgumentType]
    credited = estimator(turns)[turns.valid]
    # Each part has mean square <= 1 over the group, so has their convex mix.
    assert credited.size == 0 or np.mean(credited**2) <= 1 + 1e-9


def expected_gradients(estimator: Mica, p: float) -> np.ndarray:
    """Enumerate two dialogues that go on with probability p, three turns at most, reward 1 a turn.

    Returns:
        [3], E[(a_t - p) A_t] for the choice at each turn t, of the first dialogue; a_t = 1 if it continues.
    """
    lives = [((0,), 1 - p), ((1, 0), p * (1 - p)), ((1, 1, 0), p * p * (1 - p)), ((1, 1, 1), p**3)]
    gradient = np.zeros(3)
    for (first, weight), (second, other_weight) in product(lives, lives):
        valid = np.arange(3) < np.array([[len(first)], [len(second)]])
        advantages = estimator(TurnRewards(np.ones((2, 3)), valid, np.zeros(2, np.int64)))
        for t, action in enumerate(first):
            gradient[t] += weight * other_weight * (action - p) * advantages[0, t]
    return gradient


def test_leave_one_out_is_unbiased_where_the_mean_shrinks_the_gradient() -> None:
    # p = 1/2, gamma 1. Continuing at turn 0 adds 1 + 1/2 turns: E[(a - p) G] = p (1 - p) * 1.5 = 0.375.
    # Turn 1 is reached with probability 1/2 and continuing there adds one turn: 1/2 * 1/4 * 1 = 0.125; the
    # sibling must reach it too (probability 1/2), or there is no comparison: 0.0625. At turn 2 no choice
    # matters: 0.
    unbiased = expected_gradients(Mica(alpha=1, gamma=1, baseline="leave_one_out", divide=False), 0.5)
    np.testing.assert_allclose(unbiased, [0.375, 0.0625, 0.0], atol=1e-12)
    # A mean that includes oneself shrinks each by 1 - 1/2.
    shrunk = expected_gradients(Mica(alpha=1, gamma=1, divide=False), 0.5)
    np.testing.assert_allclose(shrunk, unbiased / 2, atol=1e-12)
