"""Agreement between raters of the same items: Krippendorff's alpha, quadratic kappa, signs, ICC.

Krippendorff's alpha comes from the package krippendorff and kappa from scikit-learn; the intraclass
correlation is our own, because its packages bring a whole statistics stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import krippendorff
import numpy as np
from sklearn.metrics import cohen_kappa_score

from mica_ray.judges.alpha_resamples import resampled_alphas
from mica_ray.statistics import Interval

RESAMPLES = 1_000
"""Bootstrap resamples. The Monte-Carlo error of a 95 % bound is then below 5 % of the interval's width."""


@dataclass(frozen=True, slots=True, eq=False)
class RatingTable:
    """Ratings of the same items by several raters.

    Attributes:
        ratings: [R, N], one row per rater; NaN where a rater did not rate an item.
        raters: R names.
        items: N names.
        cases: N names of what the items belong to; the bootstrap resamples cases.
        levels: all possible ratings in ascending order.
    """

    ratings: np.ndarray
    raters: tuple[str, ...]
    items: tuple[str, ...]
    cases: tuple[str, ...]
    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the shapes and the levels.

        Raises:
            ValueError: fewer than two raters, shapes that disagree, or a rating that is not a level.
        """
        if len(self.raters) < 2:
            raise ValueError(f"Agreement needs at least 2 raters, got {', '.join(self.raters) or 'none'}.")
        shape = (len(self.raters), len(self.items))
        if self.ratings.shape != shape or len(self.cases) != len(self.items):
            raise ValueError(
                f"ratings must be [raters, items] = {list(shape)} with one case per item, got "
                f"{list(self.ratings.shape)} and {len(self.cases)} cases."
            )
        unknown = set(self.ratings[~np.isnan(self.ratings)].tolist()) - set(self.levels)
        if unknown:
            raise ValueError(f"ratings must be one of {list(self.levels)}, got {sorted(unknown)}.")

    @property
    def is_rated(self) -> np.ndarray:
        """[R, N] bool, where there is a rating."""
        return ~np.isnan(self.ratings)

    @property
    def num_ratings(self) -> int:
        """Number of ratings."""
        return int(self.is_rated.sum())


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far raters agree. A statistic that the ratings do not define is NaN.

    An alpha is not defined if all ratings are equal, a kappa if two raters share no item.
    """

    alpha_ordinal: Interval
    """Krippendorff's alpha with the ordinal distance; 1 is perfect, 0 is chance."""
    alpha_sign: Interval
    """The same of the ratings' signs."""
    sign_disagreement: float
    """Share of the items with two or more ratings whose ratings differ in sign."""
    kappa_quadratic: Mapping[tuple[str, str], float]
    """Cohen's kappa of each pair of raters, weighted by the squared distance of level numbers."""
    icc: float
    """ICC(2,1), Shrout and Fleiss 1979: absolute agreement of one rating, over fully rated items."""
    num_raters: int
    num_items: int
    """Items with two or more ratings; the others say nothing about agreement."""
    num_ratings: int
    """Ratings of those items."""


def agreement(table: RatingTable, *, seed: int = 0, resamples: int = RESAMPLES) -> Agreement:
    """Compute the agreement of all raters of a table.

    The intervals are percentile bootstraps over cases (Efron 1979): ratings of one case are not independent.

    Args:
        table: the ratings.
        seed: seed of the resampling.
        resamples: number of resamples; 0 gives intervals of width 0.
    """
    is_shared = table.is_rated.sum(axis=0) >= 2
    ratings = table.ratings[:, is_shared]
    cases = np.array(table.cases)[is_shared]
    signs = np.sign(ratings)
    sign_levels = tuple(sorted({float(np.sign(level)) for level in table.levels}))
    return Agreement(
        alpha_ordinal=_alpha_interval(ratings, table.levels, cases, seed=seed, resamples=resamples),
        alpha_sign=_alpha_interval(signs, sign_levels, cases, seed=seed, resamples=resamples),
        sign_disagreement=_sign_disagreement(signs),
        kappa_quadratic={
            (table.raters[first], table.raters[second]): quadratic_kappa(
                ratings[first], ratings[second], table.levels
            )
            for first, second in combinations(range(len(table.raters)), 2)
        },
        icc=intraclass_correlation(ratings),
        num_raters=len(table.raters),
        num_items=int(is_shared.sum()),
        num_ratings=int((~np.isnan(ratings)).sum()),
    )


def agreement_record(found: Agreement) -> dict[str, object]:
    """Return the statistics as JSON. A statistic that the ratings do not define is null."""
    return {
        "alpha_ordinal": found.alpha_ordinal.estimate,
        "alpha_ordinal_interval": [found.alpha_ordinal.low, found.alpha_ordinal.high],
        "alpha_sign": found.alpha_sign.estimate,
        "alpha_sign_interval": [found.alpha_sign.low, found.alpha_sign.high],
        "sign_disagreement": found.sign_disagreement,
        "kappa_quadratic": {" / ".join(pair): kappa for pair, kappa in found.kappa_quadratic.items()},
        "icc": found.icc,
        "raters": found.num_raters,
        "items": found.num_items,
        "ratings": found.num_ratings,
    }


def ordinal_alpha(ratings: np.ndarray, levels: Sequence[float]) -> float:
    """Return Krippendorff's alpha for ordinal ratings; NaN if it is not defined.

    Args:
        ratings: [R, N], NaN where there is no rating.
        levels: all possible ratings in ascending order.
    """
    return _alpha(_counts(ratings, levels), levels)


def quadratic_kappa(first: np.ndarray, second: np.ndarray, levels: Sequence[float]) -> float:
    """Return Cohen's kappa with quadratic weights on level numbers; NaN if it is not defined.

        kappa = 1 - sum_jk w_jk O_jk / sum_jk w_jk E_jk,   w_jk = (j - k)^2       Cohen 1968

    Args:
        first: [N], ratings, NaN where there is none.
        second: [N], of the same items.
        levels: all possible ratings in ascending order; their distances are not used, only their order.
    """
    is_shared = ~np.isnan(first) & ~np.isnan(second)
    one, two = (np.searchsorted(np.asarray(levels), side[is_shared]) for side in (first, second))
    if one.size == 0 or len(np.union1d(one, two)) < 2:
        return math.nan
    return float(cohen_kappa_score(one, two, weights="quadratic", labels=list(range(len(levels)))))


def intraclass_correlation(ratings: np.ndarray) -> float:
    """Return ICC(2,1) over the items that every rater rated; NaN with fewer than two such items.

        ICC = (MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n)      Shrout and Fleiss 1979

    MSR, MSC and MSE are the mean squares of items, raters and residuals.

    Args:
        ratings: [R, N], NaN where there is no rating.
    """
    complete = ratings[:, ~np.isnan(ratings).any(axis=0)]
    k, n = complete.shape
    if n < 2 or k < 2:
        return math.nan
    mean = complete.mean()
    by_item, by_rater = complete.mean(axis=0), complete.mean(axis=1)
    residual = complete - by_item[None, :] - by_rater[:, None] + mean
    msr = k * float(((by_item - mean) ** 2).sum()) / (n - 1)
    msc = n * float(((by_rater - mean) ** 2).sum()) / (k - 1)
    mse = float((residual**2).sum()) / ((n - 1) * (k - 1))
    total = msr + (k - 1) * mse + k * (msc - mse) / n
    return (msr - mse) / total if total > 0 else math.nan


def bootstrap_cases(
    cases: np.ndarray, statistic: Callable[[np.ndarray], float], *, seed: int, resamples: int
) -> Interval:
    """Return a statistic with its 95 % percentile bootstrap interval over cases.

    Args:
        cases: [N], the case of each item.
        statistic: computes the statistic of the items at an index array; NaN where it is not defined.
        seed: seed of the resampling.
        resamples: number of resamples; those without a defined statistic are left out.
    """
    estimate = statistic(np.arange(len(cases)))
    _, numbers = np.unique(cases, return_inverse=True)
    members = [np.flatnonzero(numbers == number) for number in range(int(numbers.max(initial=-1)) + 1)]
    generator = np.random.default_rng(seed)
    drawn = [
        statistic(np.concatenate([members[case] for case in sample]))
        for sample in generator.integers(max(1, len(members)), size=(resamples, len(members)))
        if members
    ]
    return _percentiles(estimate, np.array(drawn))


def _percentiles(estimate: float, drawn: np.ndarray) -> Interval:
    defined = drawn[~np.isnan(drawn)]
    low, high = np.quantile(defined, [0.025, 0.975]) if defined.size else (estimate, estimate)
    return Interval(estimate, float(low), float(high))


def _alpha_interval(
    ratings: np.ndarray, levels: Sequence[float], cases: np.ndarray, *, seed: int, resamples: int
) -> Interval:
    counts = _counts(ratings, levels)
    drawn = resampled_alphas(counts, cases, seed=seed, resamples=resamples)
    return _percentiles(_alpha(counts, levels), drawn)


def _counts(ratings: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Return [N, L], how often each item received each level."""
    return np.stack([(ratings == level).sum(axis=0) for level in levels], axis=1)


def _alpha(counts: np.ndarray, levels: Sequence[float]) -> float:
    pairable = counts[counts.sum(axis=1) >= 2]
    if np.count_nonzero(pairable.sum(axis=0)) < 2:
        return math.nan
    return float(
        krippendorff.alpha(value_counts=pairable, value_domain=list(levels), level_of_measurement="ordinal")
    )


def _sign_disagreement(signs: np.ndarray) -> float:
    if signs.shape[1] == 0:
        return math.nan
    return float(np.mean(np.nanmax(signs, axis=0) != np.nanmin(signs, axis=0)))
