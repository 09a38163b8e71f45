"""GRPO's advantage and its mean-only form: one number per dialogue, the same on all its turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mica_ray.credit.normalize import Baseline, group_segments, standardize
from mica_ray.credit.returns import dialogue_rewards
from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True)
class Grpo:
    """Compare a dialogue's summed reward with its group.

        A[i, t] = (R_i - mean_g) / (std_g + EPS),   R_i = sum_t r[i, t]        GRPO, arXiv 2402.03300

    Population std. `Grpo(divide=False)` is Dr.GRPO (arXiv 2503.20783): R_i - mean_g.
    """

    divide: bool = True
    """Whether to divide by the group's standard deviation."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Give the advantage of every turn; a group of one dialogue gets 0.

        Args:
            turns: rewards of one step.

        Returns:
            [B, T] float64, no unit when divided and reward units when not, 0 where not valid.
        """
        return on_every_turn(compare_dialogues(turns, baseline="mean", divide=self.divide), turns.valid)


def compare_dialogues(turns: TurnRewards, *, baseline: Baseline, divide: bool) -> np.ndarray:
    """Compare the summed rewards of the dialogues of each group; dialogues without a valid turn stay out.

    Args:
        turns: rewards of one step.
        baseline: what is subtracted.
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
    """Mark the dialogues that enter statistics: [B, T] bool -> [B] bool."""
    return valid.sum(axis=1) > 0


def on_every_turn(scores: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Put a dialogue's score on each of its valid turns: [B], [B, T] bool -> [B, T], 0 where not valid."""
    return np.where(valid, scores[:, None], 0.0)
