"""Advantages of turns -> advantages of tokens, in one gather. Which token belongs to which turn is given.

Nothing runs along the tokens: what a turn leads to is settled before, over [B, T] (returns.py).
"""

from __future__ import annotations

import numpy as np


def spread_over_tokens(advantages: np.ndarray, turn_ids: np.ndarray) -> np.ndarray:
    """Give every token the advantage of its turn.

        A[r, l] = advantages[turn_ids[r, l]],   0 where turn_ids is -1

    One read for each token, whatever the number of turns, so that a dialogue's length in tokens costs memory
    traffic and no arithmetic.

    Args:
        advantages: any shape, counted in its flat order: [V] of the trained turns, or [B, T] with turn t of
            dialogue i as number i * T + t.
        turn_ids: [R, L] int, the number of each token's turn, -1 for tokens of no trained turn.

    Returns:
        [R, L] float32, the unit of the advantages.

    Raises:
        ValueError: a turn id is below -1, or as large as the number of advantages or larger.
    """
    if turn_ids.size and not (turn_ids.min() >= -1 and turn_ids.max() < advantages.size):
        raise ValueError(
            f"turn_ids must be in [-1, {advantages.size}); got {turn_ids.min()} to {turn_ids.max()}"
        )
    # The last entry is what index -1 reads.
    return np.append(advantages.astype(np.float32), np.float32(0)).take(turn_ids)
