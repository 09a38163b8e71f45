"""An estimator's advantage as a sum of comparisons, each a linear map of rewards within segments.

prediction.py computes what noise does to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mica_ray.credit import (
    CreditEstimator,
    Grpo,
    LambdaReturns,
    Mica,
    ReinforcePlusPlus,
    ReturnToGo,
    Rloo,
)
from mica_ray.credit.normalize import Baseline, group_segments, segment_sizes, turn_segments
from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """Compare values within segments: weight x factor x (value - mean) [/ deviation]."""

    weight: np.ndarray
    """[B, W], 0 where another term is used instead."""
    gamma: float | None
    """Discount of the compared returns, 0 for immediate rewards. None: the summed reward of a dialogue."""
    segments: np.ndarray
    """[B, W] int; W = 1 for summed rewards, otherwise T."""
    baseline: Baseline = "mean"
    divide: bool = True
    whiten: bool = False
    """Whether the differences are divided by their deviation over the batch."""
    keeps_lone: bool = False
    """Whether a value without siblings is kept as it is; otherwise it becomes 0."""


def terms_of(estimator: CreditEstimator, turns: TurnRewards, compared: np.ndarray) -> tuple[Term, ...] | None:
    """Return the terms of an estimator for one batch, None for an estimator that has no such form.

    Args:
        estimator: of credit/; others, and lambda-returns below 1, bootstrap or depend on states.
        turns: one batch.
        compared: [B, T] bool, the turns that it trains on.
    """
    width = turns.valid.shape[1]
    everywhere = np.ones(turns.valid.shape)
    same_turn, same_group = turn_segments(turns.group, width), group_segments(turns.group, width)
    whole = np.zeros_like(same_group)
    is_lone = segment_sizes(compared, same_turn) == 1
    match estimator:
        case Mica():
            scope = same_group if estimator.immediate_scope == "group" else whole
            alpha = np.where(is_lone & (estimator.lone_turn == "group"), 0.0, estimator.alpha)
            style: tuple[Baseline, bool] = (estimator.baseline, estimator.divide)
            keeps = estimator.lone_turn == "return"
            turn_term = Term(alpha, estimator.gamma, same_turn, *style, keeps_lone=keeps)
            return turn_term, Term(1 - alpha, 0.0, scope, *style)
        case LambdaReturns(turn_lambda=1.0):
            scope = same_group if estimator.scope == "group" else whole
            alpha = estimator.alpha * everywhere
            style = (estimator.baseline, estimator.divide)
            decayed = estimator.gamma * estimator.group_lambda
            return Term(alpha, estimator.gamma, same_turn, *style), Term(1 - alpha, decayed, scope, *style)
        case ReturnToGo():
            in_batch = 1.0 * (is_lone & (estimator.lone_baseline == "batch"))
            over_batch = turn_segments(np.zeros_like(turns.group), width)
            return tuple(
                Term(weight, estimator.gamma, segments, "leave_one_out", divide=False, keeps_lone=True)
                for weight, segments in ((1.0 - in_batch, same_turn), (in_batch, over_batch))
            )
        case _:
            return _dialogue_terms(estimator, same_group)


def _dialogue_terms(estimator: CreditEstimator, same_group: np.ndarray) -> tuple[Term, ...] | None:
    """Return the terms of an estimator without returns."""
    whole, group = np.zeros_like(same_group), same_group[:, :1]
    one = np.ones(group.shape)
    match estimator:
        case Grpo():
            return (Term(one, None, group, divide=estimator.divide),)
        case Rloo():
            return (Term(one, None, group, "leave_one_out", divide=False),)
        case ReinforcePlusPlus("trajectory"):
            return (Term(one, None, whole[:, :1]),)
        case ReinforcePlusPlus("baseline"):
            return (Term(one, None, group, divide=False, whiten=True),)
        case ReinforcePlusPlus("batch_idr"):
            return (Term(np.ones(whole.shape), 0.0, whole),)
        case _:
            return None
