"""REINFORCE++ for dialogues: statistics of the whole batch instead of the group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mica_ray.credit.grpo import compare_dialogues, has_valid_turn, on_every_turn
from mica_ray.credit.normalize import standardize
from mica_ray.credit.returns import dialogue_rewards
from mica_ray.types import TurnRewards

ReinforceKind = Literal["trajectory", "batch_idr", "baseline"]


@dataclass(frozen=True, slots=True)
class ReinforcePlusPlus:
    """Whiten over the batch (REINFORCE++, arXiv 2501.03262).

        trajectory  A[i, t] = (R_i - mean_batch) / (std_batch + EPS),  R_i = sum_t r[i, t]
        batch_idr   A[i, t] = (r[i, t] - mean_batch) / (std_batch + EPS)  over all turns of the batch
        baseline    A[i, t] = whiten_batch(R_i - mean_g)  group mean first, then the batch

    R is whitened over dialogues, each counted once however long it is; the original whitens token returns.
    """

    kind: ReinforceKind = "trajectory"

    def __post_init__(self) -> None:
        """Refuse a kind that is none of the three."""
        if self.kind not in get_args(ReinforceKind):
            raise ValueError(f"kind must be one of {', '.join(get_args(ReinforceKind))}; got {self.kind!r}")

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Give the advantage of every turn; a batch of one dialogue gets 0 (batch_idr: a batch of one turn).

        Args:
            turns: rewards of one step.

        Returns:
            [B, T] float64, no unit, 0 where not valid.
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
