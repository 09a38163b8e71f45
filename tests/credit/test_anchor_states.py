"""Comparison among equal states, with values derived by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mica_ray.credit import AnchorStates, Grpo
from mica_ray.credit.anchor_states import anchor_segments
from mica_ray.types import TurnRewards

STATES = np.array([[[-3.0], [-1.0]], [[-3.0], [-2.0]], [[-1.0], [-3.0]]])
TURNS = TurnRewards(
    np.array([[1.0, 2.0], [0.0, 6.0], [4.0, 7.0]]), np.ones((3, 2), bool), np.zeros(3, np.int64), STATES
)


def test_equal_states_meet_across_turns() -> None:
    # State -3: the first turns of dialogues 0 and 1, the second of dialogue 2. State -1: (0, 1) and (2, 0).
    codes = anchor_segments(TURNS, resolution=0.0)
    assert codes[0, 0] == codes[1, 0] == codes[2, 1]
    assert codes[0, 1] == codes[2, 0]
    assert len(np.unique(codes)) == 3


def test_advantage_is_the_dialogue_plus_the_weighted_anchor() -> None:
    # gamma 1: returns (3, 2), (6, 6), (11, 7). State -3: 3, 6, 7, mean 16/3; state -1: 2, 11, mean 6.5;
    # state -2 occurs once. R = 3, 6, 11, mean 20/3.
    estimator = AnchorStates(weight=0.5, gamma=1.0, divide=False)
    among = np.array([[3 - 16 / 3, 2 - 6.5], [6 - 16 / 3, 0], [11 - 6.5, 7 - 16 / 3]])
    expected = np.array([[3], [6], [11]]) - 20 / 3 + 0.5 * among
    np.testing.assert_allclose(estimator(TURNS), expected, atol=1e-12)


def test_states_nobody_shares_leave_grpo() -> None:
    # As in free dialogue, where no two need states are equal.
    alone = TurnRewards(TURNS.rewards, TURNS.valid, TURNS.group, np.arange(6.0).reshape(3, 2, 1))
    np.testing.assert_allclose(AnchorStates()(alone), Grpo()(alone))


def test_resolution_says_what_counts_as_equal() -> None:
    # Rounded to multiples of 2: -3.2 and -4.4 are both -4, -2.9 is -2.
    near = TurnRewards(
        np.zeros((1, 3)), np.ones((1, 3), bool), np.zeros(1, np.int64), np.array([[[-3.2], [-4.4], [-2.9]]])
    )
    codes = anchor_segments(near, resolution=2.0)[0]
    assert codes[0] == codes[1] != codes[2]


def test_equal_states_of_two_scenarios_stay_apart() -> None:
    turns = TurnRewards(TURNS.rewards, TURNS.valid, np.array([0, 1, 1]), np.zeros((3, 2, 1)))
    codes = anchor_segments(turns, resolution=0.0)
    np.testing.assert_array_equal(codes, [[0, 0], [1, 1], [1, 1]])


def test_state_that_is_no_number_is_refused_where_it_is_read() -> None:
    broken = np.where(np.arange(2)[:, None] == 1, np.nan, STATES)
    with pytest.raises(ValueError, match="states must be finite where valid"):
        AnchorStates()(TurnRewards(TURNS.rewards, TURNS.valid, TURNS.group, broken))


@pytest.mark.parametrize(("field", "value"), [("gamma", 1.1), ("weight", -1.0), ("resolution", float("nan"))])
def test_value_out_of_range_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .*, got .*{value}"):
        AnchorStates(**{field: value})  # pyright: ignore[reportArgumentType]
