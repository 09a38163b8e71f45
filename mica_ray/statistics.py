"""Intervals for evaluation tables: seeded bootstrap over scenarios, Wilson for shares. Numbers only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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


_CHUNK = 500
"""Resamples held at once: 500 of 5 seeds x 200 cases take 4 MB, and all pairs of two such arms 20 MB."""


def resample(scores: np.ndarray, *, within_cases: bool, seed: int) -> Iterator[np.ndarray]:
    """Draw scores with replacement, RESAMPLES times in all, in chunks.

    Within cases: each case draws as many of its own scores as it has (Agarwal et al. 2021, arXiv 2108.13264,
    Section 4.1, with the case in the place of their task). Else whole cases are drawn. Missing scores are
    never drawn in the place of others.

    Args:
        scores: [S, M], NaN where nothing was scored; no case without any score.
        within_cases: which of the two.
        seed: of the draws.

    Yields:
        [R, S, M], R at most 500; nothing when there is no case.
    """
    num_seeds, num_cases = scores.shape
    # Sorted by value, so that no interval depends on the order of the seeds.
    ranked = np.sort(scores, axis=0)
    counts = (~np.isnan(ranked)).sum(axis=0)
    unfilled = np.arange(num_seeds)[:, None] >= counts
    generator = np.random.default_rng(seed)
    for start in range(0, RESAMPLES if num_cases else 0, _CHUNK):
        size = min(_CHUNK, RESAMPLES - start)
        if within_cases:
            picked = (generator.random((size, num_seeds, num_cases)) * counts).astype(int)
            yield np.where(unfilled, np.nan, ranked[picked, np.arange(num_cases)])
        else:
            picked = generator.integers(num_cases, size=(size, num_cases))
            yield ranked[:, picked].swapaxes(0, 1)


def percentile_interval(estimate: float, resampled: Iterator[np.ndarray], confidence: float) -> Interval:
    """Give an estimate with the percentiles of its resampled values, NaN throughout when there are none.

    Args:
        estimate: of the scores themselves.
        resampled: chunks [R] of the same estimate.
        confidence: share of the resampled values inside the interval.

    Raises:
        ValueError: `confidence` is not inside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1); got {confidence}")
    chunks = list(resampled)
    if not chunks:
        return Interval(math.nan, math.nan, math.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(chunks), [tail, 1 - tail])
    return Interval(float(estimate), float(low), float(high))


def mean_of_case_means(scores: np.ndarray) -> np.ndarray:
    """Average each case over its scores, then the cases: [R, S, M] -> [R]; NaN without a case."""
    counts = (~np.isnan(scores)).sum(axis=1)
    if scores.shape[2] == 0:
        return np.full(len(scores), np.nan)
    return (np.nansum(scores, axis=1) / counts).mean(axis=1)


def mean_of_middle_half(scores: np.ndarray) -> np.ndarray:
    """Average what is left of all scores when floor(n / 4) are cut at each end: [R, S, M] -> [R]."""
    pooled = np.sort(scores.reshape(len(scores), -1), axis=1)
    # Missing scores are sorted last; where whole cases are drawn, resamples differ in how many they hold.
    counts = (~np.isnan(pooled)).sum(axis=1)
    cut = counts // 4
    rank = np.arange(pooled.shape[1])
    is_middle = (rank >= cut[:, None]) & (rank < (counts - cut)[:, None])
    with np.errstate(invalid="ignore"):
        return np.where(is_middle, pooled, 0.0).sum(axis=1) / is_middle.sum(axis=1)


def chance_of_more(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Give the chance that a left score exceeds a right one of the same case, a tie counting half.

    Args:
        left: [R, S, M].
        right: [R, S', M].

    Returns:
        [R, M], over all pairs of a case in which both are scored; each case needs one.
    """
    gap = left[:, :, None] - right[:, None]
    wins = (gap > 0) + 0.5 * (gap == 0)
    return wins.sum(axis=(1, 2)) / (~np.isnan(gap)).sum(axis=(1, 2))
