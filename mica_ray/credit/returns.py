"""What a dialogue earns from a turn on. The scan runs over turns, never over tokens, so nothing resets it."""

from __future__ import annotations

import numpy as np


def discounted_returns(rewards: np.ndarray, valid: np.ndarray, *, gamma: float) -> np.ndarray:
    """Sum the rewards of each turn and of the turns after it.

        G[i, t] = sum_{s >= t} gamma^(s - t) r[i, s]                    MICA, arXiv 2603.06194

    The exponent counts turn indices: a turn that is not valid earns 0 yet still separates its neighbours by
    one step.

    Args:
        rewards: [B, T], reward units; arbitrary where not valid.
        valid: [B, T] bool, the turn was played and judged.
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

    Args:
        rewards: [B, T], reward units; arbitrary where not valid.
        valid: [B, T] bool.

    Returns:
        [B] float64, reward units, 0 for a dialogue without a valid turn.
    """
    return np.where(valid, rewards, 0.0).sum(axis=1, dtype=np.float64)
