"""Discounted returns over played turns."""

from __future__ import annotations

import numpy as np

from mica_ray.credit.returns import dialogue_rewards, discounted_returns


def test_return_is_the_discounted_sum_from_the_turn_on() -> None:
    # G_2 = 4; G_1 = 2 + 0.5 * 4 = 4; G_0 = 1 + 0.5 * 4 = 3.
    returns = discounted_returns(np.array([[1.0, 2.0, 4.0]]), np.ones((1, 3), bool), gamma=0.5)
    np.testing.assert_allclose(returns, [[3.0, 4.0, 4.0]])


def test_hole_earns_nothing_but_still_counts_as_a_step() -> None:
    # Turn 1 is not valid: G_0 = 1 + 0.5 * (0 + 0.5 * 4) = 2, and the hole itself gets 0.
    valid = np.array([[True, False, True]])
    returns = discounted_returns(np.array([[1.0, np.nan, 4.0]]), valid, gamma=0.5)
    np.testing.assert_allclose(returns, [[2.0, 0.0, 4.0]])


def test_zero_reward_turn_keeps_its_return() -> None:
    returns = discounted_returns(np.array([[0.0, 0.0, 1.0]]), np.ones((1, 3), bool), gamma=1.0)
    np.testing.assert_allclose(returns, [[1.0, 1.0, 1.0]])


def test_dialogue_reward_skips_what_is_not_valid() -> None:
    rewards = np.array([[1.0, np.nan, 4.0], [np.nan, np.nan, np.nan]])
    np.testing.assert_allclose(dialogue_rewards(rewards, np.isfinite(rewards)), [5.0, 0.0])
