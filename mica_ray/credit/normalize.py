"""Normalize values within segments: same turn of siblings, group, or batch.

All centring, scaling and EPS of advantages are here. The estimators choose the segments.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Baseline = Literal["mean", "leave_one_out"]

EPS = 1e-6
"""Added to a standard deviation before the division, reward units."""

CONSTANT_TOLERANCE = 1e-10
"""A segment is constant if its std is below this share of its largest absolute value (rounding)."""


def turn_segments(group: np.ndarray, num_turns: int) -> np.ndarray:
    """Number the pairs (group, turn index), to compare siblings at the same turn.

    >>> turn_segments(np.array([7, 7, 9]), 2)
    array([[0, 1],
           [0, 1],
           [2, 3]])

    Args:
        group: [B] int.
        num_turns: T.

    Returns:
        [B, T] int64, numbers from 0.
    """
    return group_segments(group, num_turns) * max(num_turns, 1) + np.arange(num_turns)


def group_segments(group: np.ndarray, num_turns: int) -> np.ndarray:
    """Number the groups, to compare all turns of all dialogues of one scenario.

    >>> group_segments(np.array([7, 7, 9]), 2)
    array([[0, 0],
           [0, 0],
           [1, 1]])

    Args:
        group: [B] int.
        num_turns: T.

    Returns:
        [B, T] int64, numbers from 0.
    """
    codes = np.unique(group, return_inverse=True)[1].astype(np.int64)
    return np.repeat(codes[:, None], num_turns, axis=1)


def segment_sizes(valid: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """Count the valid members of each entry's segment.

    >>> segment_sizes(np.array([True, True, False]), np.array([0, 0, 0]))
    array([2, 2, 2])

    Args:
        valid: bool, any shape.
        segments: int numbers from 0, same shape.

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
    """Normalize each value within its segment.

        z = (x - mean) / (std + EPS)        population mean and std over the valid members of the segment

    With baseline "leave_one_out" the mean runs over the others, x - mean_others = n / (n - 1) (x - mean).
    Members of a constant segment, or of a segment of one, get exactly 0. Entries that are not valid are
    ignored, whatever their value. With the mean baseline |z| <= sqrt(n - 1) (Samuelson's inequality), and the
    mean square of each segment is at most 1.

    >>> values, valid, segments = np.array([1.0, 3.0, 5.0]), np.ones(3, bool), np.zeros(3, int)
    >>> standardize(values, valid, segments=segments).round(3)    # mean 3, std sqrt(8 / 3)
    array([-1.225,  0.   ,  1.225])
    >>> standardize(values, valid, segments=segments, baseline="leave_one_out", divide=False)    # 1 - 4, ...
    array([-3.,  0.,  3.])

    Args:
        values: any shape.
        valid: bool, same shape.
        segments: int numbers from 0, same shape.
        baseline: what is subtracted: the mean of all members, or of the others.
        divide: whether to divide by the segment's standard deviation.

    Returns:
        Same shape, float64, 0 where not valid.

    Raises:
        ValueError: the shapes disagree, or a valid value is not finite.
    """
    if not values.shape == valid.shape == segments.shape:
        raise ValueError(
            "values, valid and segments must have one shape, "
            f"got {values.shape}, {valid.shape} and {segments.shape}."
        )
    x = values[valid].astype(np.float64)
    if not np.isfinite(x).all():
        count = int((~np.isfinite(x)).sum())
        raise ValueError(
            f"values must be finite where valid, got {count} of {x.size} with NaN or infinity. "
            "Mark turns without a reward as not valid."
        )
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
