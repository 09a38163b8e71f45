"""REINFORCE++ in its three forms, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mica_ray.credit import ReinforcePlusPlus
from mica_ray.types import TurnRewards

VALID = np.array([[True, True], [True, False], [True, True], [True, False]])
TURNS = TurnRewards(np.array([[1.0, 1.0], [0.0, 7.0], [2.0, 4.0], [4.0, 7.0]]), VALID, np.array([0, 0, 1, 1]))


def test_trajectory_form_whitens_dialogue_rewards_over_the_batch() -> None:
    # R = 2, 0, 6, 4: mean 3, deviations -1, -3, 3, 1, std sqrt(5).
    z = np.array([-1, -3, 3, 1]) / np.sqrt(5)
    np.testing.assert_allclose(ReinforcePlusPlus()(TURNS), np.where(VALID, z[:, None], 0), atol=1e-5)


def test_batch_idr_form_whitens_turn_rewards_over_the_batch() -> None:
    # Rewards 1, 1, 0, 2, 4, 4: mean 2, squared deviations 1, 1, 4, 0, 4, 4 -> std sqrt(14 / 6).
    deviations = np.array([[-1, -1], [-2, 0], [0, 2], [2, 0]])
    advantages = ReinforcePlusPlus("batch_idr")(TURNS)
    np.testing.assert_allclose(advantages, deviations / np.sqrt(14 / 6), atol=1e-5)


def test_baseline_form_centres_on_the_group_and_whitens_over_the_batch() -> None:
    # R = 2, 0, 9, 3; R - mean_g = 1, -1, 3, -3 (no division in the group); batch std sqrt(20 / 4).
    turns = TurnRewards(np.array([[2.0], [0.0], [9.0], [3.0]]), np.ones((4, 1), bool), TURNS.group)
    z = np.array([1, -1, 3, -3]) / np.sqrt(5)
    np.testing.assert_allclose(ReinforcePlusPlus("baseline")(turns), z[:, None], atol=1e-5)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kind must be '.*', got 'token'"):
        ReinforcePlusPlus("token")  # pyright: ignore[reportArgumentType]
