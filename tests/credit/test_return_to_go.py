"""Return-to-go minus the siblings' mean, derived by hand, and its gradient."""

from __future__ import annotations

import numpy as np
import pytest

from mica_ray.credit import Mica, ReturnToGo
from mica_ray.types import TurnRewards

VALID = np.array([[True, True], [True, True], [True, False], [True, True]])
TURNS = TurnRewards(
    np.array([[1.0, 3.0], [2.0, 5.0], [9.0, 50.0], [0.0, 4.0]]), VALID, np.array([0, 0, 0, 1])
)


def test_each_return_is_held_against_the_others_at_its_turn() -> None:
    # Group 0, turn 0: returns 4, 7, 9 -> 4 - 8, 7 - 6.5, 9 - 5.5. Turn 1: 3, 5 -> 3 - 5, 5 - 3. Group 1 is
    # one dialogue: at turn 0 the batch's others have mean 20/3, 4 - 20/3; at turn 1 mean 4, 4 - 4.
    expected = [[-4, -2], [0.5, 2], [3.5, 0], [4 - 20 / 3, 0]]
    np.testing.assert_allclose(ReturnToGo()(TURNS), expected, atol=1e-12)


def test_without_a_lone_baseline_the_return_stays() -> None:
    np.testing.assert_allclose(ReturnToGo(lone_baseline="none")(TURNS)[3], [4, 4])


def test_discount_reaches_the_returns() -> None:
    # gamma 0.5: returns 2.5, 4.5, 9 at turn 0 -> 2.5 - 6.75.
    assert ReturnToGo(gamma=0.5)(TURNS)[0, 0] == pytest.approx(-4.25)


def test_mica_has_it_as_a_corner() -> None:
    corner = Mica(alpha=1.0, gamma=0.9, baseline="leave_one_out", divide=False, lone_turn="return")
    np.testing.assert_allclose(corner(TURNS), ReturnToGo(gamma=0.9, lone_baseline="none")(TURNS), atol=1e-12)


def test_lone_return_with_division_is_refused() -> None:
    with pytest.raises(ValueError, match="lone_turn='return' needs divide=False"):
        Mica(lone_turn="return")


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\], got 1\.5\."):
        ReturnToGo(gamma=1.5)
    with pytest.raises(ValueError, match="lone_baseline must be 'batch' or 'none', got 'zero'"):
        ReturnToGo(lone_baseline="zero")  # pyright: ignore[reportArgumentType]
