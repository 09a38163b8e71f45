"""Confidence intervals: seeded bootstrap over scenarios, Wilson for shares.

scipy.stats.bootstrap draws the same resamples as ours, but its bounds differ in the last digit. It also
refuses fewer than two values and cannot resample within cases when some of their scores are missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.checks import within

RESAMPLES = 10_000
"""Bootstrap resamples. The Monte-Carlo error of a 95 % bound is then below 2 % of the interval's width."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval, both in the unit of the estimate."""

    estimate: float
    low: float
    high: float


def bootstrap_mean(values: Sequence[float] | np.ndarray, *, seed: int, confidence: float = 0.95) -> Interval:
    """Return the mean over scenarios with its percentile bootstrap interval (Efron 1979).

    The bootstrap resamples scenarios. Dialogues of one scenario are not independent, so the caller averages
    them first. A single value has an interval of width 0; without values it is NaN.

    >>> bootstrap_mean([2.0, 2.0, 2.0], seed=0)
    Interval(estimate=2.0, low=2.0, high=2.0)

    Args:
        values: [S], one value per scenario, any unit.
        seed: seed of the resampling. The same seed and values give the same bounds.
        confidence: share of the resampled means inside the interval.

    Raises:
        ValueError: `confidence` is not inside (0, 1), or `values` is not one-dimensional.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1:
        raise ValueError(f"values must be [S], got shape {sample.shape}.")
    return mean_of_part_means([sample], seed=seed, confidence=confidence)


def mean_of_part_means(
    parts: Sequence[Sequence[float] | np.ndarray], *, seed: int, confidence: float = 0.95
) -> Interval:
    """Return the mean over parts of the mean of each part, such as the parts of a benchmark.

    The bootstrap resamples the values of each part separately. NaN if a part has no values, or there is none.

    >>> mean_of_part_means([[1.0, 1.0, 1.0], [4.0]], seed=0)    # (1 + 4) / 2, however large the parts are
    Interval(estimate=2.5, low=2.5, high=2.5)

    Args:
        parts: [K][S_k], any unit.
        seed: seed of the resampling.
        confidence: share of the resampled means inside the interval.

    Raises:
        ValueError: `confidence` is not inside (0, 1).
    """
    _check_confidence(confidence)
    samples = [np.asarray(part, dtype=np.float64) for part in parts]
    if not samples or any(sample.size == 0 for sample in samples):
        return Interval(math.nan, math.nan, math.nan)
    generator = np.random.default_rng(seed)
    means = np.zeros(RESAMPLES)
    for sample in samples:
        drawn = generator.integers(sample.size, size=(RESAMPLES, sample.size))
        means += sample[drawn].mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means / len(samples), [tail, 1 - tail])
    estimate = sum(float(sample.mean()) for sample in samples) / len(samples)
    return Interval(estimate, float(low), float(high))


def paired_difference(
    before: Sequence[float] | np.ndarray,
    after: Sequence[float] | np.ndarray,
    *,
    seed: int,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean of after - before with its interval, resampling the pairs of a scenario.

    >>> paired_difference([1.0, 2.0], [3.0, 4.0], seed=0)
    Interval(estimate=2.0, low=2.0, high=2.0)

    Args:
        before: [S], one value per scenario.
        after: [S], the same scenarios in the same order.
        seed: seed of the resampling.
        confidence: share of the resampled means inside the interval.

    Raises:
        ValueError: the two differ in length, or `confidence` is not inside (0, 1).
    """
    if len(before) != len(after):
        raise ValueError(
            f"before and after must have one value per scenario, got {len(before)} and {len(after)} values."
        )
    return bootstrap_mean(
        np.asarray(after, float) - np.asarray(before, float), seed=seed, confidence=confidence
    )


def wilson(successes: int, total: int, *, z: float = 1.959964) -> Interval:
    """Return a share with its Wilson score interval (Wilson 1927), valid at 0 and 1 too.

        centre = (p + z^2 / 2n) / (1 + z^2 / n),   half = z sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n)

    >>> interval = wilson(1, 2, z=2)    # centre (1/2 + 1) / 3 = 1/2, half 2 sqrt(1/8 + 1/4) / 3 = 0.408
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.092, 0.908)

    Args:
        successes: number of successes, 0 to `total`.
        total: number of trials; 0 gives a share of NaN with the bounds 0 and 1.
        z: standard normal quantile; the default gives a 95 % interval.

    Raises:
        ValueError: `successes` is outside 0 to `total`.
    """
    within(0, total, successes=successes)
    if total == 0:
        return Interval(math.nan, 0.0, 1.0)
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total**2)) / (1 + z * z / total)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


_CHUNK = 500
"""Resamples per chunk. 500 of 5 seeds x 200 cases take 4 MB, all pairs of two such arms 20 MB."""


def resample(scores: np.ndarray, *, within_cases: bool, seed: int) -> Iterator[np.ndarray]:
    """Draw scores with replacement, RESAMPLES times in total, in chunks.

    Within cases, each case draws as many of its own scores as it has (stratified bootstrap, Agarwal et al.
    2021, arXiv 2108.13264, Section 4.1, with a case in place of their task). Otherwise whole cases are drawn.
    A missing score never replaces another one.

    Args:
        scores: [S, M] for S seeds and M cases, NaN where missing; every case has at least one score.
        within_cases: whether to draw scores within each case or whole cases.
        seed: seed of the draws.

    Yields:
        [R, S, M] with R at most 500; nothing if there is no case.
    """
    num_seeds, num_cases = scores.shape
    # Sorted by value: the interval must not depend on the order of the seeds.
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
    """Return an estimate with the percentile interval of its resampled values.

    NaN without a resampled value.

    >>> percentile_interval(2.0, iter([np.array([1.0, 2.0, 3.0])]), confidence=0.5)
    Interval(estimate=2.0, low=1.5, high=2.5)

    Args:
        estimate: the estimate from the scores themselves.
        resampled: chunks [R] of the same estimate on resampled scores.
        confidence: share of the resampled values inside the interval.

    Raises:
        ValueError: `confidence` is not inside (0, 1).
    """
    _check_confidence(confidence)
    chunks = list(resampled)
    if not chunks:
        return Interval(math.nan, math.nan, math.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(chunks), [tail, 1 - tail])
    return Interval(float(estimate), float(low), float(high))


def mean_of_case_means(scores: np.ndarray) -> np.ndarray:
    """Average the scores of each case, then the cases: [R, S, M] -> [R]; NaN without a case.

    >>> mean_of_case_means(np.array([[[1.0, 4.0], [3.0, np.nan]]]))    # ((1 + 3) / 2 + 4) / 2
    array([3.])
    """
    counts = (~np.isnan(scores)).sum(axis=1)
    if scores.shape[2] == 0:
        return np.full(len(scores), np.nan)
    return (np.nansum(scores, axis=1) / counts).mean(axis=1)


def mean_of_middle_half(scores: np.ndarray) -> np.ndarray:
    """Average the middle half of all scores: [R, S, M] -> [R].

    Of n scores, the floor(n / 4) lowest and highest are left out.

    >>> mean_of_middle_half(np.array([[[9.0, 1.0, 2.0, 4.0]]]))    # (2 + 4) / 2
    array([3.])
    """
    pooled = np.sort(scores.reshape(len(scores), -1), axis=1)
    # NaN sorts last. Resamples of whole cases differ in their number of scores.
    counts = (~np.isnan(pooled)).sum(axis=1)
    cut = counts // 4
    rank = np.arange(pooled.shape[1])
    is_middle = (rank >= cut[:, None]) & (rank < (counts - cut)[:, None])
    with np.errstate(invalid="ignore"):
        return np.where(is_middle, pooled, 0.0).sum(axis=1) / is_middle.sum(axis=1)


def chance_of_more(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the probability that a left score exceeds a right one of the same case.

    A tie counts half.

    >>> chance_of_more(np.array([[[2.0], [3.0]]]), np.array([[[2.0], [1.0]]]))    # 1/2 + 1 + 1 + 1, of 4
    array([[0.875]])

    Args:
        left: [R, S, M].
        right: [R, S', M].

    Returns:
        [R, M], over all pairs of a case without NaN; each case needs at least one such pair.
    """
    gap = left[:, :, None] - right[:, None]
    wins = (gap > 0) + 0.5 * (gap == 0)
    return wins.sum(axis=(1, 2)) / (~np.isnan(gap)).sum(axis=(1, 2))


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}.")
