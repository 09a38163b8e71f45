"""Arms of an experiment, each played under several seeds on the same cases: summaries and comparisons.

Numbers and sentences. How scores are resampled is in stratified_bootstrap.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mica_ray.statistics import (
    Interval,
    bootstrap_mean,
    chance_of_more,
    mean_of_case_means,
    mean_of_middle_half,
    percentile_interval,
    resample,
)


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of training, scored on the same cases under several seeds."""

    name: str
    scores: np.ndarray
    """[S, M], any unit, higher is better; NaN where the case failed: it is left out and counted."""
    seeds: tuple[int, ...]
    """[S], one per trained policy."""
    cases: tuple[str, ...]
    """[M], scenario ids."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64))
        wanted = (len(self.seeds), len(self.cases))
        if self.scores.shape != wanted:
            raise ValueError(
                f"scores of {self.name} must be [S, M] = {list(wanted)}; got {list(self.scores.shape)}"
            )
        for field, values in (("seeds", self.seeds), ("cases", self.cases)):
            if len(set(values)) != len(values):
                raise ValueError(f"{field} of {self.name} must not repeat; got {list(values)}")
        if np.isinf(self.scores).any():
            raise ValueError(f"scores of {self.name} must be finite, or NaN where a case failed; got inf")

    @property
    def num_failed(self) -> int:
        """Scores that are missing."""
        return int(np.isnan(self.scores).sum())

    def on(self, seeds: Sequence[int], cases: Sequence[str]) -> Arm:
        """Give the arm with these of its seeds and cases, in this order.

        Raises:
            ValueError: it has no such seed or case.
        """
        rows, columns = [self.seeds.index(seed) for seed in seeds], [self.cases.index(case) for case in cases]
        return replace(
            self, scores=self.scores[np.ix_(rows, columns)], seeds=tuple(seeds), cases=tuple(cases)
        )

    def scored(self) -> Arm:
        """Give the arm without the cases that have no score, the others in the order of their names."""
        is_scored = ~np.isnan(self.scores)
        return self.on(self.seeds, sorted(case for m, case in enumerate(self.cases) if is_scored[:, m].any()))


def mean(arm: Arm, *, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Give the mean over cases of each case's mean over seeds, with its stratified bootstrap interval.

        mean = 1/M sum_m 1/S sum_s x[s, m]           Agarwal et al. 2021, arXiv 2108.13264, Section 4.1

    A resample draws, in every case on its own, as many of the case's scores as it has: the interval speaks of
    other seeds on the same cases. It takes one seed's scores of two cases for independent, which is not the
    whole truth where one policy plays all cases, so `verdict` looks at whole seeds as well. With one seed
    there is nothing to draw within a case: whole cases are drawn and the interval speaks of other cases.

    Args:
        arm: what is summarized; a case without any score is left out, an arm without any gives NaN.
        seed: of the resampling. Equal arms give equal bounds, in whatever order their seeds and cases stand.
        confidence: share of resampled values inside the interval.

    Raises:
        ValueError: `confidence` is not inside (0, 1).
    """
    return _summarize(arm, mean_of_case_means, seed, confidence)


def interquartile_mean(arm: Arm, *, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Give the mean of the middle half of all scores, seeds and cases pooled.

        IQM = mean of x_(k+1) .. x_(n-k),   x sorted,   k = floor(n / 4)     Agarwal et al. 2021, Section 4.3

    One odd score moves it less than the mean, and it varies less from seed to seed than the median.
    Arguments, interval and errors are those of `mean`.
    """
    return _summarize(arm, mean_of_middle_half, seed, confidence)


def performance_profile(
    arm: Arm, thresholds: Sequence[float] | np.ndarray, *, seed: int = 0, confidence: float = 0.95
) -> tuple[Interval, ...]:
    """Give the share of scores above each threshold, as `mean` gives a mean.

        F(tau) = 1/M sum_m 1/S sum_s [x[s, m] > tau]             Agarwal et al. 2021, Section 4.2

    Each interval holds for its own threshold, not for the curve as a whole.

    Args:
        arm: what is summarized.
        thresholds: [K], unit of the scores.
        seed: of the resampling, the same resamples for every threshold.
        confidence: of each interval.

    Returns:
        [K], shares in [0, 1].

    Raises:
        ValueError: `confidence` is not inside (0, 1).
    """
    is_missing = np.isnan(arm.scores)
    shares = (np.where(is_missing, np.nan, arm.scores > threshold) for threshold in thresholds)
    return tuple(mean(replace(arm, scores=share), seed=seed, confidence=confidence) for share in shares)


def difference(a: Arm, b: Arm, *, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Give mean(a) - mean(b) over the cases both have, with its stratified bootstrap interval.

    Paired by case and seed where the seeds of one arm include those of the other: the scores subtracted are
    those of one seed in one case, and a score without its partner is left out. Otherwise paired by case
    alone, with the seeds of each arm drawn on their own. Arms without a case in common are not paired at all.

    Args:
        a: the arm that the difference is in favour of when positive.
        b: what it is compared with.
        seed: of the resampling.
        confidence: of the interval.

    Returns:
        NaN throughout where there is nothing to compare.

    Raises:
        ValueError: `confidence` is not inside (0, 1).
    """
    pairs = _pairs(a, b)
    if pairs is not None:
        return mean(pairs, seed=seed, confidence=confidence)
    left, right = _on_shared_cases(a, b)
    estimate = float(mean_of_case_means(left.scores[None])[0] - mean_of_case_means(right.scores[None])[0])
    within_cases = min(len(left.seeds), len(right.seeds)) > 1
    # Equal draws keep the two scores of a case together where cases are drawn.
    other_seed = seed if left.cases == right.cases and not within_cases else seed + 1
    drawn = zip(
        resample(left.scores, within_cases=within_cases, seed=seed),
        resample(right.scores, within_cases=within_cases, seed=other_seed),
        strict=False,  # an arm without a score gives no draws
    )
    gaps = (mean_of_case_means(x) - mean_of_case_means(y) for x, y in drawn)
    return percentile_interval(estimate, gaps, confidence)


def probability_of_improvement(a: Arm, b: Arm, *, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Give the chance that a seed of `a` beats a seed of `b` in a case, averaged over the cases both have.

        P = 1/M sum_m 1/(S S') sum_s,s' [x > y] + [x = y] / 2            Agarwal et al. 2021, Section 4.3

    0.5 says that neither is better. All pairs of seeds of a case are compared, whatever the seeds' names.
    Arguments, interval and errors are those of `difference`; NaN where no case is shared.
    """
    left, right = _on_shared_cases(a, b)
    if left.cases != right.cases:
        return percentile_interval(float("nan"), iter(()), confidence)
    chance = chance_of_more(left.scores[None], right.scores[None])
    if min(len(left.seeds), len(right.seeds)) == 1:
        return mean(Arm("chance", chance, (0,), left.cases), seed=seed, confidence=confidence)
    drawn = zip(
        resample(left.scores, within_cases=True, seed=seed),
        resample(right.scores, within_cases=True, seed=seed + 1),
        strict=True,
    )
    chances = (chance_of_more(x, y).mean(axis=1) for x, y in drawn)
    return percentile_interval(float(chance.mean()), chances, confidence)


def verdict(a: Arm, b: Arm, metric: str, *, seed: int = 0, confidence: float = 0.95) -> str:
    """Say in a sentence whether `a` scores higher than `b`, with the interval that says so.

    One is called higher only where the interval of the difference leaves out 0 both with scores drawn
    within cases and with whole seeds drawn: a lucky training lifts all its cases at once, which the first
    does not see.

    Args:
        a: the arm the question is about.
        b: what it is compared with.
        metric: name of the score, for the sentence.
        seed: of the resampling.
        confidence: of the intervals.
    """
    gap = difference(a, b, seed=seed, confidence=confidence)
    if np.isnan(gap.estimate):
        return f"{a.name} and {b.name} cannot be compared in {metric}: one of them has no score."
    share = f"{100 * confidence:.0f} %"
    numbers = f"{gap.estimate:+.2f}, {share} interval {gap.low:+.2f} to {gap.high:+.2f}; {_basis(a, b)}"
    chance = probability_of_improvement(a, b, seed=seed, confidence=confidence)
    if not np.isnan(chance.estimate):
        numbers += (
            f"; probability of improvement {chance.estimate:.2f} ({chance.low:.2f} to {chance.high:.2f})"
        )
    if a.num_failed or b.num_failed:
        numbers += f"; scores missing: {a.num_failed} of {a.name}, {b.num_failed} of {b.name}"
    doubt = _doubt(a, b, gap, seed=seed, confidence=confidence)
    if doubt is None:
        direction = "higher" if gap.estimate > 0 else "lower"
        return f"{a.name} scores {direction} than {b.name} in {metric}: {numbers}."
    return f"{a.name} and {b.name} are not distinguishable in {metric}: {numbers}{doubt}."


def _summarize(
    arm: Arm, statistic: Callable[[np.ndarray], np.ndarray], seed: int, confidence: float
) -> Interval:
    scores = arm.scored().scores
    drawn = resample(scores, within_cases=len(arm.seeds) > 1, seed=seed)
    return percentile_interval(float(statistic(scores[None])[0]), map(statistic, drawn), confidence)


def _pairs(a: Arm, b: Arm) -> Arm | None:
    """Give a - b by seed and case, None where they share no case or neither's seeds include the other's."""
    seeds, cases = sorted(set(a.seeds) & set(b.seeds)), sorted(set(a.cases) & set(b.cases))
    if not cases or len(seeds) < min(len(a.seeds), len(b.seeds)):
        return None
    gaps = a.on(seeds, cases).scores - b.on(seeds, cases).scores
    return Arm(f"{a.name} - {b.name}", gaps, tuple(seeds), tuple(cases))


def _on_shared_cases(a: Arm, b: Arm) -> tuple[Arm, Arm]:
    """Give both on the cases that each has a score in, or each on its own where they share none."""
    left, right = a.scored(), b.scored()
    shared = sorted(set(left.cases) & set(right.cases))
    return (left.on(left.seeds, shared), right.on(right.seeds, shared)) if shared else (left, right)


def _basis(a: Arm, b: Arm) -> str:
    """Say what a difference of the two rests on."""
    pairs = _pairs(a, b)
    if len(a.seeds) == len(b.seeds) == 1 and set(a.cases) & set(b.cases):
        cases = _count(len(_on_shared_cases(a, b)[0].cases), "case")
        return f"paired by {cases}, one seed each, so of these two policies alone"
    if pairs is not None:
        return f"paired by {_count(len(pairs.cases), 'case')} and {_count(len(pairs.seeds), 'seed')}"
    left, right = _on_shared_cases(a, b)
    seeds = f"{len(a.seeds)} against {_count(len(b.seeds), 'seed')}"
    return (
        f"paired by {_count(len(left.cases), 'case')}, {seeds}"
        if left.cases == right.cases
        else f"unpaired, {seeds}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _doubt(a: Arm, b: Arm, gap: Interval, *, seed: int, confidence: float) -> str | None:
    """Say what keeps the difference from counting, "" when its interval does, None when nothing does."""
    pairs = _pairs(a, b)
    left, right = _on_shared_cases(a, b)
    num_seeds = len(pairs.seeds) if pairs is not None else min(len(a.seeds), len(b.seeds))
    if num_seeds == 1 and min(len(left.cases), len(right.cases)) == 1:
        return "; one value a side says nothing about chance"
    if gap.low <= 0 <= gap.high:
        return ""
    if num_seeds == 1:
        return None
    if pairs is not None:
        runs = bootstrap_mean(_seed_means(pairs), seed=seed, confidence=confidence)
    else:
        drawn = zip(
            resample(_seed_means(left)[:, None], within_cases=True, seed=seed),
            resample(_seed_means(right)[:, None], within_cases=True, seed=seed + 1),
            strict=True,
        )
        runs = percentile_interval(
            gap.estimate, (mean_of_case_means(x) - mean_of_case_means(y) for x, y in drawn), confidence
        )
    if runs.low <= 0 <= runs.high:
        return f"; with whole seeds drawn the interval is {runs.low:+.2f} to {runs.high:+.2f}"
    return None


def _seed_means(arm: Arm) -> np.ndarray:
    """Average each seed over the cases it has, in ascending order; a seed without any is left out."""
    scores = arm.scores[~np.isnan(arm.scores).all(axis=1)]
    return np.sort(np.nanmean(scores, axis=1))
