"""Compare values with their segment: the same turn of sibling dialogues, the group, or the batch.

The only place where an advantage is centred or scaled, and the only EPS. Estimators choose the segments.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Baseline = Literal["mean", "leave_one_out"]

EPS = 1e-6
"""Reward units, added to a standard deviation before dividing by it."""

CONSTANT_TOLERANCE = 1e-10
"""A segment whose deviation is below this share of its largest value is constant: the rest is rounding."""


def turn_segments(group: np.ndarray, num_turns: int) -> np.ndarray:
    """Number the pairs (group, turn index): who is compared at the same turn of one scenario.

    Args:
        group: [B] int.
        num_turns: T.

    Returns:
        [B, T] int64, codes from 0.
    """
    return group_segments(group, num_turns) * max(num_turns, 1) + np.arange(num_turns)


def group_segments(group: np.ndarray, num_turns: int) -> np.ndarray:
    """Number the groups: every turn of one scenario's dialogues is compared with every other.

    Args:
        group: [B] int.
        num_turns: T.

    Returns:
        [B, T] int64, codes from 0.
    """
    codes = np.unique(group, return_inverse=True)[1].astype(np.int64)
    return np.repeat(codes[:, None], num_turns, axis=1)


def segment_sizes(valid: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Count the valid members of each entry's segment.

    Args:
        valid: bool, any shape.
        segments: int codes from 0, same shape.

    Returns:
        Same shape, int64.
    """
    counts = np.bincount(segments[valid], minlength=int(segments.max(initial=-1)) + 1)
    return counts[segments]


def standardize(
    values: np.ndarray,
    valid: np.ndarray,
    *,
    segments: np.ndarray,
    baseline: Baseline = "mean",
    divide: bool = True,
) -> np.ndarray:
    """Compare each value with the other members of its segment.

        z = (x - mean) / (std + EPS)        population mean and std over the valid members of the segment

    With baseline "leave_one_out" the mean runs over the others, x - mean_others = n / (n - 1) (x - mean);
    with divide False there is no division. A lone member and every member of a constant segment get exactly
    0. Entries that are not valid enter no mean and no std, whatever they hold. With the mean baseline |z| <=
    sqrt(n - 1) (Samuelson's inequality) and each segment's mean square is at most 1.

    Args:
        values: any shape.
        valid: bool, same shape.
        segments: int codes from 0, same shape.
        baseline: what is subtracted.
        divide: whether to divide by the segment's standard deviation.

    Returns:
        Same shape, float64, 0 where not valid.

    Raises:
        ValueError: the shapes disagree, or a valid value is not finite.
    """
    if not values.shape == valid.shape == segments.shape:
        raise ValueError(f"shapes must agree; got {values.shape}, {valid.shape}, {segments.shape}")
    x = values[valid].astype(np.float64)
    if not np.isfinite(x).all():
        raise ValueError("values must be finite where valid")
    codes = segments[valid]
    count = np.bincount(codes)
    divisor = np.maximum(count, 1)
    centred = x - (np.bincount(codes, weights=x) / divisor)[codes]
    std = np.sqrt(np.bincount(codes, weights=centred**2) / divisor)
    largest = np.zeros_like(std)
    np.maximum.at(largest, codes, np.abs(x))
    compared = (count > 1) & (std > CONSTANT_TOLERANCE * largest)
    factor = np.where(compared, 1.0, 0.0)
    if baseline == "leave_one_out":
        factor *= count / np.maximum(count - 1, 1)
    if divide:
        factor /= std + EPS
    scores = np.zeros(values.shape)
    scores[valid] = centred * factor[codes]
    return scores
