"""How a judge's scores move when nothing changes, and what they follow that is not the reply.

All intervals resample whole dialogues. card.py puts the figures together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.judges.agreement import RESAMPLES, Agreement, RatingTable, agreement, bootstrap_cases
from mica_ray.statistics import Interval
from mica_ray.types import AXES

ALL = "all"
"""Key of the statistics over the three axes together."""
SCOPES = (*AXES, ALL)


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How the items of a card are resampled."""

    cases: np.ndarray
    """[N], the dialogue of each turn."""
    seed: int = 0
    resamples: int = RESAMPLES

    def of(self, statistic: Callable[[np.ndarray], float], is_used: np.ndarray | None = None) -> Interval:
        """Return a statistic of turn numbers with its interval.

        Args:
            statistic: computes it from the numbers [n] of turns.
            is_used: [N] bool, the turns that are used; None for all.
        """
        used = np.arange(len(self.cases)) if is_used is None else np.flatnonzero(is_used)
        return bootstrap_cases(
            self.cases[used],
            lambda numbers: statistic(used[numbers]),
            seed=self.seed,
            resamples=self.resamples,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """Spread of v_t within the repeats of a turn. NaN without two valid repeats of any turn."""

    covariance: np.ndarray
    """[3, 3] points^2, pooled over turns."""
    degrees: int
    """Degrees of freedom: repeats beyond the first, over all turns."""

    @property
    def sd(self) -> dict[str, float]:
        """Standard deviation of each axis of v_t, points."""
        return {axis: math.sqrt(self.covariance[k, k]) for k, axis in enumerate(AXES)}


def pooled_noise(values: np.ndarray) -> Noise:
    """Return the covariance of v_t within repeats.

        S = sum_t sum_r (v_tr - mean_t)(v_tr - mean_t)' / sum_t (n_t - 1)

    Args:
        values: [N, R, 3] points, NaN where a repeat has no valid answer.
    """
    total, degrees = np.zeros((3, 3)), 0
    for repeats in values:
        valid = repeats[~np.isnan(repeats).any(axis=1)]
        if len(valid) > 1:
            centred = valid - valid.mean(axis=0)
            total += centred.T @ centred
            degrees += len(valid) - 1
    return Noise(total / degrees if degrees else np.full((3, 3), np.nan), degrees)


def sign_flips(values: np.ndarray, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Return the share of pairs of repeats of a turn, one above 0 and one below, by axis and over all axes.

    Unlike the sign disagreement of `Agreement`, it does not depend on the number of repeats; 0 is no sign.

    Args:
        values: [N, R, 3] points, NaN where a repeat has no valid answer.
        bootstrap: over the dialogues of the turns.
    """
    above, below, valid = (
        (values > 0).sum(axis=1),
        (values < 0).sum(axis=1),
        (~np.isnan(values)).sum(axis=1),
    )
    flips, pairs = above * below, valid * (valid - 1) / 2

    def share(axes: list[int]) -> Interval:
        def of(used: np.ndarray) -> float:
            total = pairs[used][:, axes].sum()
            return float(flips[used][:, axes].sum() / total) if total else math.nan

        return bootstrap.of(of)

    return {**{axis: share([k]) for k, axis in enumerate(AXES)}, ALL: share([0, 1, 2])}


def agreements(
    rows: np.ndarray, raters: Sequence[str], bootstrap: Bootstrap, levels: Sequence[float]
) -> dict[str, Agreement]:
    """Return the agreement of raters on v_t, for each axis and over all axes.

    Over all axes, an item is one axis of one turn.

    Args:
        rows: [R, N, 3] points, NaN where there is no rating.
        raters: R names.
        bootstrap: the dialogues that are resampled.
        levels: all points that are possible, ascending.
    """
    observed = rows[~np.isnan(rows)].tolist()
    scale = tuple(sorted({*levels, *observed}))
    cases = [str(case) for case in bootstrap.cases]

    def table(axes: Sequence[int]) -> Agreement:
        names = [f"{number}-{AXES[axis]}" for axis in axes for number in range(len(cases))]
        ratings = np.concatenate([rows[:, :, axis] for axis in axes], axis=1)
        found = RatingTable(ratings, tuple(raters), tuple(names), tuple(cases * len(axes)), scale)
        return agreement(found, seed=bootstrap.seed, resamples=bootstrap.resamples)

    return {**{axis: table([k]) for k, axis in enumerate(AXES)}, ALL: table(range(len(AXES)))}


def by_scope(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return [N] values of each axis and their mean over the axes, from [N, 3]."""
    return {**{axis: values[:, k] for k, axis in enumerate(AXES)}, ALL: values.mean(axis=1)}


def mean_of(values: np.ndarray, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Return the mean over turns of [N, 3] values, by axis and over all axes; NaN rows are left out."""
    return {
        scope: bootstrap.of(
            lambda used, row=row: float(row[used].mean()) if used.size else math.nan, ~np.isnan(row)
        )
        for scope, row in by_scope(values).items()
    }


def slopes(values: np.ndarray, along: np.ndarray, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Return the least-squares slope of [N, 3] values along [N], by axis and over all axes."""
    return {scope: _paired(row, along, bootstrap, _slope) for scope, row in by_scope(values).items()}


def correlation(values: np.ndarray, along: np.ndarray, bootstrap: Bootstrap) -> Interval:
    """Return Pearson's correlation of [N] values with [N]; NaN if either does not vary."""
    return _paired(values, along, bootstrap, _pearson)


def _paired(
    values: np.ndarray,
    along: np.ndarray,
    bootstrap: Bootstrap,
    statistic: Callable[[np.ndarray, np.ndarray], float],
) -> Interval:
    is_used = ~np.isnan(values) & ~np.isnan(along)
    return bootstrap.of(lambda used: statistic(along[used], values[used]), is_used)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    spread = float(((x - x.mean()) ** 2).sum()) if x.size else 0.0
    return float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 0 else math.nan


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def interval_record(interval: Interval) -> dict[str, float]:
    """Return an interval as JSON."""
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}


def intervals_record(found: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    """Return intervals by name as JSON."""
    return {name: interval_record(interval) for name, interval in found.items()}
