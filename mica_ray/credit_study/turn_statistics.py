"""Statistics of recorded turns before any estimator: survivors, rewards by turn, bounds of z-scores.

measures.py describes advantages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.credit.normalize import group_segments, standardize
from mica_ray.types import TurnRewards

BANDS = ((0, 5), (5, 10), (10, 15))
"""First turn index and the index after the last."""
BAND_NAMES = ("turns 1-5", "turns 6-10", "turns 11-15")


@dataclass(frozen=True, slots=True, eq=False)
class Survivors:
    """The dialogues that can be compared at each turn index; every array is [T] int."""

    dialogues: np.ndarray
    """Dialogues with a judged turn at this index."""
    groups: np.ndarray
    """Groups with such a dialogue."""
    lone: np.ndarray
    """Groups with only one such dialogue, which has nothing to be compared with."""


@dataclass(frozen=True, slots=True, eq=False)
class SpikeBound:
    """How close z-scores are to Samuelson's bound, per segment; arrays are [S], one value per segment.

    |z| <= (n - 1) / sqrt(n)        sample standard deviation, n members
    """

    sizes: np.ndarray
    """n of segments with two or more members."""
    largest: np.ndarray
    """Largest |z| of each segment, with the sample standard deviation."""

    @property
    def bounds(self) -> np.ndarray:
        """Return (n - 1) / sqrt(n) of each segment."""
        return (self.sizes - 1) / np.sqrt(self.sizes)


@dataclass(frozen=True, slots=True)
class BandEarning:
    """The rewards of a model's turns in one band of turn indices."""

    mean: float
    """Points per turn, NaN if no turn was judged."""
    deviation: float
    """Population standard deviation over turns, points."""
    num_turns: int


def band_earnings(idr: np.ndarray, models: Sequence[str]) -> dict[str, tuple[BandEarning, ...]]:
    """Return the rewards per turn of each model in each of BANDS.

    Args:
        idr: [B, T] points, NaN where not judged.
        models: [B], the model of each row.
    """
    earned: dict[str, tuple[BandEarning, ...]] = {}
    for model in dict.fromkeys(models):
        rows = idr[[name == model for name in models]]
        earned[model] = tuple(_band(rows[:, first:end]) for first, end in BANDS)
    return earned


def _band(rewards: np.ndarray) -> BandEarning:
    known = rewards[np.isfinite(rewards)]
    if not known.size:
        return BandEarning(math.nan, math.nan, 0)
    return BandEarning(float(known.mean()), float(known.std()), int(known.size))


def spike_bound(values: np.ndarray, valid: np.ndarray, segments: np.ndarray) -> SpikeBound:
    """Find the largest z-score of every segment with two or more valid members.

    Args:
        values: [B, T].
        valid: [B, T] bool.
        segments: [B, T] int codes from 0.
    """
    # With the population's deviation; the bound refers to the sample's, which is larger.
    scores = np.abs(standardize(values, valid, segments=segments))[valid]
    codes = segments[valid]
    sizes = np.bincount(codes)
    largest = np.zeros(len(sizes))
    np.maximum.at(largest, codes, scores)
    kept = sizes > 1
    return SpikeBound(sizes[kept], largest[kept] * np.sqrt((sizes[kept] - 1) / sizes[kept]))


def count_survivors(turns: TurnRewards) -> Survivors:
    """Count the dialogues and groups that reach each turn index."""
    codes = group_segments(turns.group, 1)[:, 0]
    by_group = np.zeros((int(codes.max(initial=-1)) + 1, turns.valid.shape[1]), dtype=np.int64)
    np.add.at(by_group, codes, turns.valid)
    return Survivors(by_group.sum(axis=0), (by_group > 0).sum(axis=0), (by_group == 1).sum(axis=0))
