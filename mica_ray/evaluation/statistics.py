"""Intervals for evaluation tables: seeded bootstrap over scenarios, Wilson for shares. Numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
"""Bootstrap resamples: the Monte-Carlo error of a 95 % bound is then below 2 % of the interval's width."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval, in the unit of what was estimated."""

    estimate: float
    low: float
    high: float


def bootstrap_mean(values: Sequence[float] | np.ndarray, *, seed: int, confidence: float = 0.95) -> Interval:
    """Give the mean of one value per scenario with a percentile bootstrap interval (Efron 1979).

    Scenarios are the unit resampled: the caller averages the dialogues of one scenario first, since they
    are not independent. One value alone gives an interval of no width, no value gives NaN throughout.

    Args:
        values: [S], one value per scenario, any unit.
        seed: of the resampling; equal seeds on equal values give equal bounds.
        confidence: share of resampled means inside the interval.

    Raises:
        ValueError: `confidence` is not inside (0, 1), or `values` is not one-dimensional.
    """
    sample = np.asarray(values, dtype=np.float64)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1); got {confidence}")
    if sample.ndim != 1:
        raise ValueError(f"values must be [S]; got shape {sample.shape}")
    if sample.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    drawn = np.random.default_rng(seed).integers(sample.size, size=(RESAMPLES, sample.size))
    tail = (1 - confidence) / 2
    low, high = np.quantile(sample[drawn].mean(axis=1), [tail, 1 - tail])
    return Interval(float(sample.mean()), float(low), float(high))


def paired_difference(
    before: Sequence[float] | np.ndarray,
    after: Sequence[float] | np.ndarray,
    *,
    seed: int,
    confidence: float = 0.95,
) -> Interval:
    """Give the mean of after - before over the same scenarios, resampling the pairs.

    Args:
        before: [S], one value per scenario.
        after: [S], the same scenarios in the same order.
        seed: of the resampling.
        confidence: of the interval.

    Raises:
        ValueError: the two do not pair up.
    """
    if len(before) != len(after):
        raise ValueError(
            f"before and after must pair up by scenario; got {len(before)} and {len(after)} values"
        )
    return bootstrap_mean(
        np.asarray(after, float) - np.asarray(before, float), seed=seed, confidence=confidence
    )


def wilson(successes: int, total: int, *, z: float = 1.959964) -> Interval:
    """Give a share with its Wilson score interval (Wilson 1927), which stays sound at 0 and at 1.

        centre = (p + z^2 / 2n) / (1 + z^2 / n),   half = z sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n)

    Args:
        successes: 0..total.
        total: trials; 0 gives NaN with the bounds 0 and 1.
        z: standard normal quantile; the default is that of 95 %.

    Raises:
        ValueError: successes outside 0..total.
    """
    if not 0 <= successes <= total:
        raise ValueError(f"successes must be in 0..{total}; got {successes}")
    if total == 0:
        return Interval(math.nan, 0.0, 1.0)
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total**2)) / (1 + z * z / total)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))
