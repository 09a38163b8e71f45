"""Our estimators on token arrays of other trainers: turns, and credit across user tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.credit import CreditEstimator, Grpo, Mica, ReturnToGo
from mica_ray.credit.token_credit import token_advantages, turns_of_replies
from mica_ray.types import TurnRewards

TURN_ONLY = Mica(alpha=1.0, gamma=1.0)


def test_every_run_of_reply_tokens_is_a_turn() -> None:
    mask = np.array([[1, 1, 0, 1, 0, 0], [0, 1, 0, 1, 1, 1]])
    np.testing.assert_array_equal(
        turns_of_replies(mask), [[0, 0, -1, 1, -1, -1], [-1, 0, -1, 1, 1, 1]]
    )  # fmt: skip


def test_credit_crosses_the_tokens_of_the_user() -> None:
    # Two replies with two user tokens between; the first dialogue wins at its second reply. Returns [1, 1]
    # and [0, 0]: z = +1 and -1 at both turns, on all their tokens.
    mask = np.array([[1, 1, 0, 0, 1], [1, 0, 0, 1, 1]])
    rewards = np.array([[0.0, 0, 0, 0, 1], [0, 0, 0, 0, 0]])
    advantages = token_advantages(rewards, turns_of_replies(mask), ["q", "q"], TURN_ONLY)
    np.testing.assert_allclose(advantages, [[1, 1, 0, 0, 1], [-1, 0, 0, -1, -1]], atol=1e-5)


def test_turn_that_earned_nothing_is_compared_like_any_other() -> None:
    # Second turns earn 0 and 2: returns of the group at turn 1 are 0 and 2, mean 1, half the difference 1.
    mask = np.array([[1, 0, 1], [1, 0, 1]])
    rewards = np.array([[1.0, 0, 0], [1.0, 0, 2]])
    advantages = token_advantages(rewards, turns_of_replies(mask), [7, 7], TURN_ONLY)
    np.testing.assert_allclose(advantages, [[-1, 0, -1], [1, 0, 1]], atol=1e-5)


def test_reward_on_the_users_tokens_is_the_replys_before_them() -> None:
    mask = np.array([[1, 0, 1, 0], [1, 0, 1, 0]])
    on_replies = np.array([[3.0, 0, 5, 0], [0, 0, 0, 0]])
    on_users = np.array([[0.0, 3, 0, 5], [0, 0, 0, 0]])
    turns = turns_of_replies(mask)
    expected = token_advantages(on_replies, turns, ["q", "q"], Grpo())
    np.testing.assert_array_equal(token_advantages(on_users, turns, ["q", "q"], Grpo()), expected)
    assert expected.any()


def test_turn_nobody_judged_gets_no_credit_and_enters_no_mean() -> None:
    mask = np.array([[1, 0, 1], [1, 0, 1], [1, 0, 1]])
    rewards = np.array([[np.nan, 0, 4], [1.0, 0, 2], [3.0, 0, 0]])
    advantages = token_advantages(rewards, turns_of_replies(mask), ["q"] * 3, Mica(alpha=1.0, gamma=0.0))
    # Turn 0 is compared among 1 and 3: -1, +1. Turn 1 among 4, 2, 0: 2 / sqrt(8 / 3) = sqrt(3 / 2).
    root = 1.5**0.5
    np.testing.assert_allclose(advantages, [[0, 0, root], [-1, 0, 0], [1, 0, -root]], atol=1e-5)


@st.composite
def turn_batches(draw: st.DrawFn) -> tuple[TurnRewards, list[list[int]]]:
    """Draw dialogues of unequal lengths, and token counts of replies and user messages."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_dialogues, num_turns = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    shape = (num_dialogues, num_turns)
    lengths = generator.integers(0, num_turns + 1, size=num_dialogues)
    turns = TurnRewards(
        generator.integers(-2, 3, size=shape).astype(np.float64),
        np.arange(num_turns) < lengths[:, None],
        generator.integers(0, 2, size=num_dialogues),
    )
    return turns, generator.integers(1, 4, size=(num_dialogues, 2 * num_turns)).tolist()


@pytest.mark.parametrize("estimator", [Mica(), Grpo(), ReturnToGo()], ids=repr)
@settings(deadline=None, max_examples=30)
@given(turn_batches())
def test_tokens_get_what_the_turns_get(
    estimator: CreditEstimator, batch: tuple[TurnRewards, list[list[int]]]
) -> None:
    turns, sizes = batch
    num_dialogues, num_turns = turns.rewards.shape
    mask = np.zeros((num_dialogues, 6 * num_turns + 2), dtype=np.int64)
    rewards = np.zeros(mask.shape)
    last = np.full(turns.rewards.shape, -1)
    for row in range(num_dialogues):
        column = 0
        for turn in np.flatnonzero(turns.valid[row]):
            user, reply = sizes[row][2 * turn], sizes[row][2 * turn + 1]
            mask[row, column + user : column + user + reply] = 1
            column += user + reply
            rewards[row, column - 1] = turns.rewards[row, turn]
            last[row, turn] = column - 1
    names = [f"uid-{group}" for group in turns.group]
    advantages = token_advantages(rewards, turns_of_replies(mask), names, estimator)
    by_turn = np.take_along_axis(advantages, np.maximum(last, 0), axis=1)
    # float32 holds seven digits.
    np.testing.assert_allclose(by_turn[turns.valid], estimator(turns)[turns.valid], rtol=1e-5, atol=1e-6)
    assert not advantages[mask == 0].any()


@pytest.mark.parametrize(
    ("rewards", "turns", "num_groups"),
    [
        ((1, 3), (1, 4), 1),
        ((1, 4), (1, 4), 2),
        ((1, 4), (1, 4), 0),
        ((4,), (4,), 4),
        ((1, 4, 1), (1, 4, 1), 1),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    rewards: tuple[int, ...], turns: tuple[int, ...], num_groups: int
) -> None:
    with pytest.raises(ValueError) as caught:
        token_advantages(np.zeros(rewards), np.zeros(turns, np.int64), ["q"] * num_groups, Mica())
    assert str(caught.value) == (
        "token_rewards and token_turns must be [B, L] and groups [B], "
        f"got {rewards}, {turns} and [{num_groups}]."
    )


def test_row_with_a_misplaced_reward_or_turn_is_named() -> None:
    turns = np.array([[-1, 0, -1, 1]] * 3)
    early = np.zeros((3, 4))
    early[1, 0] = early[2, 0] = 1.0
    with pytest.raises(ValueError, match=r"must be 0 before the first reply, got a reward in row 1\."):
        token_advantages(early, turns, ["q"] * 3, Mica())
    turns[2] = turns[2, ::-1]
    with pytest.raises(ValueError, match=r"token_turns must ascend along each row, got a descent in row 2\."):
        token_advantages(np.zeros((3, 4)), turns, ["q"] * 3, Mica())
    with pytest.raises(ValueError, match=r"reply_mask must be \[B, L\], got shape \(4,\)"):
        turns_of_replies(np.ones(4))


def test_reward_on_the_first_reply_token_is_not_early() -> None:
    advantages = token_advantages(np.array([[1.0, 0], [0, 0]]), np.zeros((2, 2), np.int64), "qq", Grpo())
    np.testing.assert_allclose(advantages, [[1, 1], [-1, -1]], atol=1e-5)
    assert advantages.dtype == np.float32


def test_groups_are_told_apart_by_value() -> None:
    # Names of any kind: rewards 1, 3 of one prompt and 5, 9 of another.
    turns = np.zeros((4, 1), np.int64)
    rewards = np.array([[1.0], [5.0], [3.0], [9.0]])
    for groups in (["x", "y", "x", "y"], np.array([7, -2, 7, -2]), [None, (1, 2), None, (1, 2)]):
        advantages = token_advantages(rewards, turns, groups, Grpo(divide=False))
        np.testing.assert_array_equal(advantages, [[-1], [-2], [1], [2]])


def test_batch_without_rows_or_replies_has_no_credit() -> None:
    assert token_advantages(np.zeros((0, 3)), np.zeros((0, 3), np.int64), [], Mica()).shape == (0, 3)
    silent = token_advantages(np.zeros((2, 3)), np.full((2, 3), -1), ["q", "q"], Mica())
    np.testing.assert_array_equal(silent, np.zeros((2, 3)))


def test_turn_numbers_may_skip_turns_of_other_rows() -> None:
    # Row 0 has only turn 1 and row 1 only turn 0: nothing to compare at either turn.
    turns = np.array([[-1, 1], [0, -1]])
    advantages = token_advantages(np.array([[0.0, 5], [3, 0]]), turns, ["q", "q"], Mica(alpha=1.0))
    assert not advantages.any()
