"""Krippendorff's ordinal alpha of many resamples at once; agreement.py computes the estimate itself.

The package krippendorff computes one alpha per call, which takes seconds for an interval; a card has dozens.
"""

from __future__ import annotations

import numpy as np


def resampled_alphas(counts: np.ndarray, cases: np.ndarray, *, seed: int, resamples: int) -> np.ndarray:
    """Return the ordinal alpha of each bootstrap resample over cases.

        alpha = 1 - (n - 1) sum_ck o_ck d_ck / sum_ck n_c n_k d_ck,   o = sum over cases of w_case o_case
        d_ck = (sum of n_g over g from c to k, minus (n_c + n_k) / 2)^2            Krippendorff 2011

    o_case is the coincidence matrix of the case's items, n_c its row sums over all cases, n their sum, and
    w_case how often the resample drew the case.

    Args:
        counts: [N, L], how often each item received each level, levels ascending.
        cases: [N], the case of each item.
        seed: seed of the draws, which are those of `agreement.bootstrap_cases`.
        resamples: number of resamples.

    Returns:
        [resamples]; NaN where all ratings of a resample are equal, or none can be paired.
    """
    _, numbers = np.unique(cases, return_inverse=True)
    num_cases, num_levels = int(numbers.max(initial=-1)) + 1, counts.shape[1]
    if num_cases == 0:
        return np.full(resamples, np.nan)
    by_case = np.zeros((num_cases, num_levels, num_levels))
    np.add.at(by_case, numbers, coincidences(counts))
    drawn = np.random.default_rng(seed).integers(num_cases, size=(resamples, num_cases))
    weights = np.stack([np.bincount(draw, minlength=num_cases) for draw in drawn]) if resamples else drawn
    return alphas(np.tensordot(weights.astype(np.float64), by_case, axes=1))


def coincidences(counts: np.ndarray) -> np.ndarray:
    """Return the coincidence matrix of each item, [N, L, L].

        o_ck = n_c (n_k - [c = k]) / (n - 1)

    Items with fewer than two ratings have none.

    Args:
        counts: [N, L], how often each item received each level.
    """
    total = counts.sum(axis=1)
    pairs = counts[:, :, None] * (counts[:, None, :] - np.eye(counts.shape[1]))
    return np.where(total[:, None, None] > 1, pairs / np.maximum(total - 1, 1)[:, None, None], 0.0)


def alphas(coincidence: np.ndarray) -> np.ndarray:
    """Return the ordinal alpha of coincidence matrices [R, L, L], NaN where all ratings are equal."""
    n = coincidence.sum(axis=2)
    total = n.sum(axis=1)
    up_to = np.cumsum(n, axis=1)
    # The sum of n_g between two levels, both included, without half of either: a difference of midpoints.
    middle = up_to - n / 2
    distance = (middle[:, :, None] - middle[:, None, :]) ** 2
    observed = (coincidence * distance).sum(axis=(1, 2))
    expected = (n[:, :, None] * n[:, None, :] * distance).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan)
