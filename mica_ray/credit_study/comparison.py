"""Credit of one set of turns by several estimators, compared.

recordings/recorded_turns.py reads the turns; tables.py and reporting/credit/page.py show the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mica_ray.credit.estimator import CreditEstimator
from mica_ray.credit.normalize import group_segments, turn_segments
from mica_ray.credit.returns import dialogue_rewards, discounted_returns
from mica_ray.credit_study.measures import (
    SILENT,
    CreditMeasures,
    by_batch,
    correlation,
    measure_credit,
    root_mean_square,
)
from mica_ray.credit_study.turn_statistics import SpikeBound, Survivors, count_survivors, spike_bound
from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True, eq=False)
class CreditComparison:
    """Several estimators on one set of turns: E estimators, B dialogues, T turns."""

    names: tuple[str, ...]
    advantages: np.ndarray
    """[E, B, T], each in its estimator's own unit, 0 where not judged."""
    measures: tuple[CreditMeasures, ...]
    pearson: np.ndarray
    """[E, E], over judged turns; NaN for an estimator that is constant."""
    rank: np.ndarray
    """[E, E], Spearman's; ties have their mean rank."""
    mean_by_turn: np.ndarray
    """[E, T], mean A of the dialogues that reach the turn, in multiples of the estimator's rms."""
    rms_by_turn: np.ndarray
    """[E, T], root mean square in the same unit: the weight of a turn index."""
    survivors: Survivors
    turn_bound: SpikeBound
    """Bound of returns compared at the same turn."""
    group_bound: SpikeBound
    """Bound of immediate rewards compared over the group."""
    constant_groups: int
    """Groups of two or more dialogues with equal sums of rewards."""
    lone_groups: int
    """Groups of one dialogue."""
    disagreement: np.ndarray
    """[B], mean over judged turns of the standard deviation of A / rms over the estimators."""


def compare_credit(
    turns: TurnRewards,
    estimators: Mapping[str, CreditEstimator],
    *,
    batch: np.ndarray,
    gamma: float,
    reply_lengths: np.ndarray,
) -> CreditComparison:
    """Credit the turns with every estimator and compare the advantages.

    Args:
        turns: B dialogues, at least one judged turn; group numbers are unique over all batches.
        estimators: by name, at least one.
        batch: [B] int, equal for dialogues that an estimator sees together.
        gamma: discount of the returns whose spikes are bounded.
        reply_lengths: [B, T], any unit, NaN where not recorded.

    Raises:
        ValueError: there is no estimator or no judged turn, or an estimator cannot credit these turns.
    """
    if not estimators or not turns.valid.any():
        raise ValueError(
            f"estimators and judged turns must not be empty, got {list(estimators)}, {turns.valid.sum()}."
        )
    advantages = np.stack([by_batch(estimator, turns, batch=batch) for estimator in estimators.values()])
    rms = np.array([root_mean_square(credit[turns.valid]) for credit in advantages])
    scaled = advantages / np.where(rms > 0, rms, 1.0)[:, None, None]
    flat = advantages[:, turns.valid]
    num_turns = turns.valid.shape[1]
    returns = discounted_returns(turns.rewards, turns.valid, gamma=gamma)
    sums = dialogue_rewards(turns.rewards, turns.valid)
    members = [sums[turns.group == group] for group in np.unique(turns.group)]
    return CreditComparison(
        names=tuple(estimators),
        advantages=advantages,
        measures=tuple(
            measure_credit(estimator, turns, credit, batch=batch, reply_lengths=reply_lengths)
            for estimator, credit in zip(estimators.values(), advantages, strict=True)
        ),
        pearson=_correlations(flat),
        rank=_correlations(np.stack([mean_ranks(row) for row in flat])),
        mean_by_turn=_over_dialogues(scaled, turns.valid),
        rms_by_turn=np.sqrt(_over_dialogues(scaled**2, turns.valid)),
        survivors=count_survivors(turns),
        turn_bound=spike_bound(returns, turns.valid, turn_segments(turns.group, num_turns)),
        group_bound=spike_bound(turns.rewards, turns.valid, group_segments(turns.group, num_turns)),
        constant_groups=sum(len(earned) > 1 and bool(np.ptp(earned) <= SILENT) for earned in members),
        lone_groups=sum(len(earned) == 1 for earned in members),
        disagreement=(scaled.std(axis=0) * turns.valid).sum(axis=1) / np.maximum(turns.valid.sum(axis=1), 1),
    )


def _over_dialogues(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Average [E, B, T] over the dialogues that reach each turn; NaN if none does."""
    count = valid.sum(axis=0)
    return np.where(count > 0, (values * valid).sum(axis=1) / np.maximum(count, 1), np.nan)


def _correlations(rows: np.ndarray) -> np.ndarray:
    return np.array([[correlation(one, other) for other in rows] for one in rows])


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of values, from 1; equal values have their mean rank: [V] -> [V]."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
