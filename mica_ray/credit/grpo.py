"""GRPO and Dr.GRPO: one advantage per dialogue, the same on all its turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mica_ray.credit.normalize import Baseline, group_segments, standardize
from mica_ray.credit.returns import dialogue_rewards
from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True)
class Grpo:
    """Compare the summed reward of a dialogue with those of its group.

        A[i, t] = (R_i - mean_g) / (std_g + EPS),   R_i = sum_t r[i, t]        GRPO, arXiv 2402.03300

    Population std. `Grpo(divide=False)` is Dr.GRPO (arXiv 2503.20783): R_i - mean_g.

    >>> turns = TurnRewards(np.array([[0.0, 4.0], [2.0, 0.0]]), np.ones((2, 2), bool), np.zeros(2, int))
    >>> Grpo()(turns).round(3)    # R = 4 and 2: mean 3, std 1
    array([[ 1.,  1.],
           [-1., -1.]])
    """

    divide: bool = True
    """Whether to divide by the group's standard deviation."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Compute the advantage of every turn; 0 in a group of one dialogue.

        Args:
            turns: rewards of one step.

        Returns:
            [B, T] float64, dimensionless if divided and otherwise in reward units, 0 where not valid.
        """
        return on_every_turn(compare_dialogues(turns, baseline="mean", divide=self.divide), turns.valid)


def compare_dialogues(turns: TurnRewards, *, baseline: Baseline, divide: bool) -> np.ndarray:
    """Compare the summed rewards of the dialogues of each group.

    Dialogues without a valid turn enter no statistic.

    Args:
        turns: rewards of one step.
        baseline: what is subtracted: the mean of the group, or of its other dialogues.
        divide: whether to divide by the group's standard deviation.

    Returns:
        [B] float64, 0 for dialogues without a valid turn.
    """
    total = dialogue_rewards(turns.rewards, turns.valid)
    segments = group_segments(turns.group, 1)[:, 0]
    return standardize(
        total, has_valid_turn(turns.valid), segments=segments, baseline=baseline, divide=divide
    )


def has_valid_turn(valid: np.ndarray) -> np.ndarray:
    """Return whether each dialogue has a valid turn: [B, T] bool -> [B] bool."""
    return valid.sum(axis=1) > 0


def on_every_turn(scores: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Copy each dialogue's score to its valid turns: [B], [B, T] -> [B, T], 0 elsewhere."""
    return np.where(valid, scores[:, None], 0.0)
