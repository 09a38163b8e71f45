"""RLOO's advantage: a dialogue against the mean of the others of its group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mica_ray.credit.grpo import compare_dialogues, on_every_turn
from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True)
class Rloo:
    """Compare a dialogue's summed reward with the mean of the others.

    A[i, t] = R_i - mean_{j != i in g} R_j,   R_i = sum_t r[i, t]        RLOO, arXiv 2402.14740
    """

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Give the advantage of every turn; a group of one dialogue gets 0.

        Args:
            turns: rewards of one step.

        Returns:
            [B, T] float64, reward units, 0 where not valid.
        """
        return on_every_turn(compare_dialogues(turns, baseline="leave_one_out", divide=False), turns.valid)
