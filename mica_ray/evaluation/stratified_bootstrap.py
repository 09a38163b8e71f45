"""The bootstrap of scores by seed and case, where each case is a stratum. Arrays in, intervals out.

What the arrays mean is in arms.py; one value per scenario is resampled in statistics.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from mica_ray.evaluation.statistics import RESAMPLES, Interval

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
