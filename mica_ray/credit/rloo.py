"""RLOO: compare a dialogue with the mean of the other dialogues of its group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mica_ray.credit.grpo import compare_dialogues, on_every_turn
from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True)
class Rloo:
    """Compare the summed reward of a dialogue with the mean of the others of its group.

        A[i, t] = R_i - mean_{j != i in g} R_j,   R_i = sum_t r[i, t]        RLOO, arXiv 2402.14740

    >>> turns = TurnRewards(np.array([[0.0, 4.0], [2.0, 0.0]]), np.ones((2, 2), bool), np.zeros(2, int))
    >>> Rloo()(turns)    # 4 - 2 and 2 - 4
    array([[ 2.,  2.],
           [-2., -2.]])
    """

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Compute the advantage of every turn; 0 in a group of one dialogue.

        Args:
            turns: rewards of one step.

        Returns:
            [B, T] float64, reward units, 0 where not valid.
        """
        return on_every_turn(compare_dialogues(turns, baseline="leave_one_out", divide=False), turns.valid)
