"""Arms of an experiment, each evaluated under several seeds on the same cases: summaries and comparisons.

statistics.py resamples the scores.
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
    """One training method, scored on the same cases under several seeds."""

    name: str
    scores: np.ndarray
    """[S, M], any unit, higher is better; NaN where the case failed, which is left out and counted."""
    seeds: tuple[int, ...]
    """[S], one per trained policy."""
    cases: tuple[str, ...]
    """[M], scenario ids."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64))
        wanted = (len(self.seeds), len(self.cases))
        if self.scores.shape != wanted:
            raise ValueError(
                f"scores of {self.name} must be [S, M] = {list(wanted)}, got {list(self.scores.shape)}."
            )
        for field, values in (("seeds", self.seeds), ("cases", self.cases)):
            if len(set(values)) != len(values):
                raise ValueError(f"{field} of {self.name} must be unique, got {list(values)}.")
        if np.isinf(self.scores).any():
            raise ValueError(f"scores of {self.name} must be finite, or NaN where a case failed, got inf.")

    @property
    def num_failed(self) -> int:
        """Number of missing scores."""
        return int(np.isnan(self.scores).sum())

    def on(self, seeds: Sequence[int], cases: Sequence[str]) -> Arm:
        """Return the arm with only these seeds and cases, in this order.

        Raises:
            ValueError: the arm does not have such a seed or case.
        """
        rows, columns = [self.seeds.index(seed) for seed in seeds], [self.cases.index(case) for case in cases]
        return replace(
            self, scores=self.scores[np.ix_(rows, columns)], seeds=tuple(seeds), cases=tuple(cases)
        )

    def scored(self) -> Arm:
        """Return the arm without the cases that have no score, the others sorted by name."""
        is_scored = ~np.isnan(self.scores)
        return self.on(self.seeds, sorted(case for m, case in enumerate(self.cases) if is_scored[:, m].any()))


def mean(arm: Arm, *, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Return the mean over cases of each case's mean over seeds, with its stratified bootstrap interval.

        mean = 1/M sum_m 1/S sum_s x[s, m]           Agarwal et al. 2021, arXiv 2108.13264, Section 4.1

    A resample draws, separately for every case, as many of its scores as it has, so the interval refers to
    other seeds on the same cases. It treats one seed's scores of two cases as independent, which is only
    approximately true because one policy plays all cases; `verdict` therefore also resamples whole seeds.
    With one seed there is nothing to draw within a case: whole cases are drawn, and the interval refers to
    other cases.

    Args:
        arm: the scores; a case without any score is left out, an arm without any gives NaN.
        seed: of the resampling. Equal arms give equal bounds, regardless of the order of seeds and cases.
        confidence: share of resampled values inside the interval.

    Raises:
        ValueError: `confidence` is not inside (0, 1).
    """
    return _summarize(arm, mean_of_case_means, seed, confidence)


def interquartile_mean(arm: Arm, *, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Return the mean of the middle half of all scores, seeds and cases pooled.

        IQM = mean of x_(k+1) .. x_(n-k),   x sorted,   k = floor(n / 4)     Agarwal et al. 2021, Section 4.3

    It is less sensitive to outliers than the mean and varies less between seeds than the median. Arguments,
    interval and errors are those of `mean`.
    """
    return _summarize(arm, mean_of_middle_half, seed, confidence)


def performance_profile(
    arm: Arm, thresholds: Sequence[float] | np.ndarray, *, seed: int = 0, confidence: float = 0.95
) -> tuple[Interval, ...]:
    """Return the share of scores above each threshold, each with an interval as in `mean`.

        F(tau) = 1/M sum_m 1/S sum_s [x[s, m] > tau]             Agarwal et al. 2021, Section 4.2

    Each interval holds for its own threshold, not simultaneously for the whole curve.

    Args:
        arm: the scores.
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
    """Return mean(a) - mean(b) over the shared cases, with its stratified bootstrap interval.

    If the seeds of one arm include those of the other, scores are paired by case and seed; a score without a
    partner is left out. Otherwise they are paired by case only, and the seeds of each arm are drawn
    separately. Arms without a shared case are not paired.

    Args:
        a: the arm favoured by a positive difference.
        b: the arm it is compared with.
        seed: of the resampling.
        confidence: of the interval.

    Returns:
        NaN throughout if there is nothing to compare.

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
    """Return the probability that a seed of `a` beats a seed of `b` in a case, averaged over shared cases.

        P = 1/M sum_m 1/(S S') sum_s,s' [x > y] + [x = y] / 2            Agarwal et al. 2021, Section 4.3

    0.5 means that neither is better. All pairs of seeds of a case are compared, also seeds of different
    names. Arguments, interval and errors are those of `difference`; NaN if no case is shared.
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
    """Return a sentence on whether `a` scores higher than `b`, with the interval it is based on.

    One arm is called higher only if the interval of the difference excludes 0 both with scores drawn within
    cases and with whole seeds drawn: a lucky training run improves all its cases at once, which the first
    interval does not capture.

    Args:
        a: the arm in question.
        b: the arm it is compared with.
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
    """Return a - b by seed and case; None if no case is shared or neither arm's seeds include the other's."""
    seeds, cases = sorted(set(a.seeds) & set(b.seeds)), sorted(set(a.cases) & set(b.cases))
    if not cases or len(seeds) < min(len(a.seeds), len(b.seeds)):
        return None
    gaps = a.on(seeds, cases).scores - b.on(seeds, cases).scores
    return Arm(f"{a.name} - {b.name}", gaps, tuple(seeds), tuple(cases))


def _on_shared_cases(a: Arm, b: Arm) -> tuple[Arm, Arm]:
    """Return both arms on the cases scored in both, or unchanged if they share none."""
    left, right = a.scored(), b.scored()
    shared = sorted(set(left.cases) & set(right.cases))
    return (left.on(left.seeds, shared), right.on(right.seeds, shared)) if shared else (left, right)


def _basis(a: Arm, b: Arm) -> str:
    """Describe the scores on which a difference of the two is based."""
    pairs = _pairs(a, b)
    if len(a.seeds) == len(b.seeds) == 1 and set(a.cases) & set(b.cases):
        cases = _count(len(_on_shared_cases(a, b)[0].cases), "case")
        return f"paired by {cases}, one seed each, so valid for these two policies only"
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
    """Return why the difference is not significant, "" if its own interval shows it, None if it is."""
    pairs = _pairs(a, b)
    left, right = _on_shared_cases(a, b)
    num_seeds = len(pairs.seeds) if pairs is not None else min(len(a.seeds), len(b.seeds))
    if num_seeds == 1 and min(len(left.cases), len(right.cases)) == 1:
        return "; one value per side does not allow an interval"
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
    """Return the mean of each seed over its cases, in ascending order; a seed without scores is left out."""
    scores = arm.scores[~np.isnan(arm.scores).all(axis=1)]
    return np.sort(np.nanmean(scores, axis=1))
