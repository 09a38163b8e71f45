"""Copy advantages of turns to their tokens. The caller passes the turn of each token.

Nothing is summed or discounted over tokens: credit/returns.py has already done that over turns.
"""

from __future__ import annotations

import numpy as np


def spread_over_tokens(advantages: np.ndarray, turn_ids: np.ndarray) -> np.ndarray:
    """Copy the advantage of each turn to its tokens.

        A[r, l] = advantages[turn_ids[r, l]],   0 where turn_ids is -1

    One gather, so the cost does not depend on the number of turns.

    >>> spread_over_tokens(np.array([0.5, -1.0]), np.array([[-1, 0, 0, -1, 1]]))
    array([[ 0. ,  0.5,  0.5,  0. , -1. ]], dtype=float32)

    Args:
        advantages: any shape, indexed in flat order: [V] for V trained turns, or [B, T] where turn t of
            dialogue i has index i * T + t.
        turn_ids: [R, L] int, the index of each token's turn, -1 for tokens outside the trained turns.

    Returns:
        [R, L] float32, in the unit of the advantages.

    Raises:
        ValueError: a turn id is below -1, or not below the number of advantages.
    """
    if turn_ids.size and not (turn_ids.min() >= -1 and turn_ids.max() < advantages.size):
        raise ValueError(
            f"turn_ids must be in [-1, {advantages.size}), got {turn_ids.min()} to {turn_ids.max()}."
        )
    # Index -1 reads the appended 0.
    return np.append(advantages.astype(np.float32), np.float32(0)).take(turn_ids)
