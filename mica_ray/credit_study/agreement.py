"""Agreement of credit with the measured values of replies: statistics only. check.py measures the values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.credit_study.comparison import mean_ranks
from mica_ray.credit_study.measures import correlation
from mica_ray.statistics import RESAMPLES, Interval, wilson


@dataclass(frozen=True, slots=True)
class CheckedTurn:
    """The credit of a turn and the measured value of its reply."""

    scenario: str
    step: int | None
    turn: int
    reply: str
    credit: Mapping[str, float]
    """Advantage by estimator, each in its own unit."""
    kept_returns: tuple[float, ...]
    """Returns from this turn on with the recorded reply, reward units; one if it ended the dialogue."""
    other_returns: tuple[float, ...]
    """Returns from this turn on with other replies of the policy to the same user message."""

    @property
    def difference(self) -> float:
        """Value of the recorded reply minus that of another one, reward units."""
        return float(np.mean(self.kept_returns) - np.mean(self.other_returns))

    @property
    def error(self) -> float:
        """Standard error of the difference."""
        return math.sqrt(
            sum(_variance_of_mean(returns) for returns in (self.kept_returns, self.other_returns))
        )


@dataclass(frozen=True, slots=True)
class EstimatorCheck:
    """Agreement of one estimator's credit with the measured differences; bootstrap over turns."""

    pearson: Interval
    rank: Interval
    """Spearman's correlation; resampled with the ranks of the whole sample."""
    sign_agreement: Interval
    """Share of turns in which credit and difference have the same sign, Wilson interval."""


@dataclass(frozen=True, slots=True)
class CreditCheck:
    """The outcome of a credit check."""

    turns: tuple[CheckedTurn, ...]
    estimators: Mapping[str, EstimatorCheck]
    reliability: float
    """Share of the variance of the measured differences that is not rollout noise; its square root bounds the
    expected correlation. NaN without variance."""
    num_failed: int
    """Continuations that failed and are left out."""
    num_dropped: int
    """Turns left out because too few of their continuations succeeded."""


def agreement(name: str, turns: Sequence[CheckedTurn], *, seed: int) -> EstimatorCheck:
    """Compare an estimator's credit with the measured differences.

    Args:
        name: of the estimator, a key of the turns' credit.
        turns: at least two.
        seed: of the intervals.
    """
    credit = np.array([turn.credit[name] for turn in turns])
    worth = np.array([turn.difference for turn in turns])
    one_sign = int((np.sign(credit) == np.sign(worth)).sum())
    return EstimatorCheck(
        pearson=bootstrap_correlation(credit, worth, seed=seed),
        rank=bootstrap_correlation(mean_ranks(credit), mean_ranks(worth), seed=seed),
        sign_agreement=wilson(one_sign, len(turns)),
    )


def bootstrap_correlation(
    one: np.ndarray, other: np.ndarray, *, seed: int, confidence: float = 0.95
) -> Interval:
    """Return Pearson's correlation with a percentile bootstrap interval over pairs (Efron 1979).

    Resamples in which either side is constant have no correlation and are left out.

    Args:
        one: [S].
        other: [S].
        seed: of the resampling.
        confidence: share of resampled correlations inside the interval.

    Returns:
        NaN throughout if either side is constant.
    """
    estimate = correlation(one, other)
    if math.isnan(estimate):
        return Interval(math.nan, math.nan, math.nan)
    drawn = np.random.default_rng(seed).integers(one.size, size=(RESAMPLES, one.size))
    a, b = (values[drawn] - values[drawn].mean(axis=1, keepdims=True) for values in (one, other))
    spread = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    varies = spread > 1e-12 * max(float(spread.max()), 1e-300)
    resampled = (a * b).sum(axis=1)[varies] / spread[varies]
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high))


def _variance_of_mean(values: Sequence[float]) -> float:
    return float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0


def reliability_of(turns: Sequence[CheckedTurn]) -> float:
    """Return the share of the variance of the differences that is not noise: 1 - mean error^2 / variance."""
    variance = float(np.var([turn.difference for turn in turns], ddof=1))
    noise = float(np.mean([turn.error**2 for turn in turns]))
    return max(0.0, 1 - noise / variance) if variance > 0 else math.nan
