"""Returns: sums of rewards over turns, not over tokens, so user tokens cannot reset them."""

from __future__ import annotations

import numpy as np


def discounted_returns(rewards: np.ndarray, valid: np.ndarray, *, gamma: float) -> np.ndarray:
    """Compute the discounted sum of the rewards of each turn and of the turns after it.

        G[i, t] = sum_{s >= t} gamma^(s - t) r[i, s]                    MICA, arXiv 2603.06194

    The exponent counts turn indices: a turn that is not valid adds 0 but still discounts later rewards.

    >>> discounted_returns(np.array([[1.0, 2.0, 4.0]]), np.ones((1, 3), bool), gamma=0.5)    # 2 + 4 / 2 = 4
    array([[3., 4., 4.]])

    Args:
        rewards: [B, T], reward units; arbitrary where not valid.
        valid: [B, T] bool, whether the turn was played and judged.
        gamma: discount per turn, in [0, 1].

    Returns:
        [B, T] float64, reward units, 0 where not valid.
    """
    earned = np.where(valid, rewards, 0.0).astype(np.float64)
    returns = np.zeros_like(earned)
    running = np.zeros(earned.shape[0])
    for t in range(earned.shape[1] - 1, -1, -1):
        running = earned[:, t] + gamma * running
        returns[:, t] = running
    return np.where(valid, returns, 0.0)


def dialogue_rewards(rewards: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Sum the valid rewards of each dialogue: R_i = sum_t r[i, t].

    >>> dialogue_rewards(np.array([[1.0, 2.0], [4.0, np.nan]]), np.array([[True, True], [True, False]]))
    array([3., 4.])

    Args:
        rewards: [B, T], reward units; arbitrary where not valid.
        valid: [B, T] bool.

    Returns:
        [B] float64, reward units, 0 for a dialogue without a valid turn.
    """
    return np.where(valid, rewards, 0.0).sum(axis=1, dtype=np.float64)
