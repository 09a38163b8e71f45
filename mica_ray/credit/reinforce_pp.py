"""REINFORCE++ for dialogues: statistics over the whole batch instead of the group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mica_ray.checks import one_of
from mica_ray.credit.grpo import compare_dialogues, has_valid_turn, on_every_turn
from mica_ray.credit.normalize import standardize
from mica_ray.credit.returns import dialogue_rewards
from mica_ray.types import TurnRewards

ReinforceKind = Literal["trajectory", "batch_idr", "baseline"]


@dataclass(frozen=True, slots=True)
class ReinforcePlusPlus:
    """Whiten rewards over the batch (REINFORCE++, arXiv 2501.03262).

        trajectory  A[i, t] = (R_i - mean_batch) / (std_batch + EPS),  R_i = sum_t r[i, t]
        batch_idr   A[i, t] = (r[i, t] - mean_batch) / (std_batch + EPS)  over all turns of the batch
        baseline    A[i, t] = whiten_batch(R_i - mean_g)  group mean first, then the batch

    Departs from the paper, which whitens token returns: here every dialogue counts once, at any length.

    >>> turns = TurnRewards(np.array([[0.0, 4.0], [2.0, 2.0]]), np.ones((2, 2), bool), np.zeros(2, int))
    >>> ReinforcePlusPlus("batch_idr")(turns).round(2) + 0.0    # mean 2, std sqrt(8 / 4)
    array([[-1.41,  1.41],
           [ 0.  ,  0.  ]])
    """

    kind: ReinforceKind = "trajectory"
    """Which of the three advantages above."""

    def __post_init__(self) -> None:
        """Check the name."""
        one_of(get_args(ReinforceKind), kind=self.kind)

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Compute the advantage of every turn.

        0 in a batch of one dialogue, or of one turn for "batch_idr".

        Args:
            turns: rewards of one step.

        Returns:
            [B, T] float64, dimensionless, 0 where not valid.
        """
        if self.kind == "batch_idr":
            return standardize(
                turns.rewards, turns.valid, segments=np.zeros(turns.valid.shape, dtype=np.int64)
            )
        if self.kind == "trajectory":
            score = dialogue_rewards(turns.rewards, turns.valid)
        else:
            score = compare_dialogues(turns, baseline="mean", divide=False)
        whole_batch = np.zeros(score.shape, dtype=np.int64)
        whitened = standardize(score, has_valid_turn(turns.valid), segments=whole_batch)
        return on_every_turn(whitened, turns.valid)
