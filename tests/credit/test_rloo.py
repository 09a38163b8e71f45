"""RLOO by hand."""

from __future__ import annotations

import numpy as np

from mica_ray.credit import Rloo
from mica_ray.types import TurnRewards


def test_rloo_subtracts_the_mean_of_the_others() -> None:
    # R = 3, 1, 5: 3 - 3 = 0;  1 - 4 = -3;  5 - 2 = 3. The fourth has no sibling.
    rewards = np.array([[1.0, 2.0], [1.0, 0.0], [5.0, 8.0], [9.0, 9.0]])
    valid = np.array([[True, True], [True, True], [True, False], [True, True]])
    advantages = Rloo()(TurnRewards(rewards, valid, np.array([0, 0, 0, 1])))
    np.testing.assert_allclose(advantages, [[0, 0], [-3, -3], [3, 0], [0, 0]])
