"""GRPO and Dr.GRPO by hand."""

from __future__ import annotations

import numpy as np

from mica_ray.credit import Grpo
from mica_ray.types import TurnRewards

VALID = np.array([[True, True], [True, False], [True, True], [True, True]])
TURNS = TurnRewards(
    np.array([[1.0, 3.0], [2.0, 50.0], [7.0, 0.0], [7.0, 0.0]]), VALID, np.array([0, 0, 1, 1])
)


def test_grpo_puts_one_number_on_every_turn_of_a_dialogue() -> None:
    # Group 0: R = 4 and 2 -> +1, -1. Group 1: 7 and 7 -> 0.
    np.testing.assert_allclose(Grpo()(TURNS), [[1, 1], [-1, 0], [0, 0], [0, 0]], atol=1e-5)


def test_dr_grpo_keeps_the_scale() -> None:
    # Group 0: R = 4 and 2, mean 3, no division.
    np.testing.assert_allclose(Grpo(divide=False)(TURNS), [[1, 1], [-1, 0], [0, 0], [0, 0]])
    doubled = TurnRewards(TURNS.rewards * 2, VALID, TURNS.group)
    np.testing.assert_allclose(Grpo(divide=False)(doubled)[0], [2, 2])


def test_dialogue_without_a_judged_turn_enters_no_mean() -> None:
    valid = np.array([[True], [True], [False]])
    turns = TurnRewards(np.array([[4.0], [2.0], [99.0]]), valid, np.zeros(3, np.int64))
    np.testing.assert_allclose(Grpo(divide=False)(turns), [[1], [-1], [0]])
