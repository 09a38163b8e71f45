"""Summaries and comparisons of arms: exact by hand, independent of order, and aware of chance."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.evaluation.arms import (
    Arm,
    difference,
    interquartile_mean,
    mean,
    performance_profile,
    probability_of_improvement,
    verdict,
)
from mica_ray.statistics import Interval

NAN = math.nan


def arm(scores: list[list[float]], *, name: str = "mixed", first_seed: int = 0) -> Arm:
    """Seeds count up from `first_seed`, cases are called a, b, c."""
    seeds = tuple(range(first_seed, first_seed + len(scores)))
    return Arm(name, np.array(scores), seeds, tuple("abcdefgh"[: len(scores[0])]))


def test_interquartile_mean_cuts_a_quarter_at_each_end() -> None:
    # 1..8 pooled from two seeds of four cases: k = 2, so the mean of 3, 4, 5, 6. The outlier 80 is cut.
    scores = [[1.0, 3, 5, 7], [2, 4, 6, 80]]
    assert interquartile_mean(arm(scores)).estimate == 4.5


def test_every_case_weighs_the_same_in_the_mean() -> None:
    # Case a: (0 + 2) / 2 = 1. Case b: only 5, its other seed failed. Mean of 1 and 5.
    failed_once = arm([[0.0, 5], [2, NAN]])
    assert mean(failed_once).estimate == 3.0
    assert failed_once.num_failed == 1


def test_seeds_that_agree_leave_no_chance() -> None:
    # Cases differ by 10, seeds do not: the case is a stratum, so all resamples are equal.
    assert mean(arm([[0.0, 10], [0, 10]])) == Interval(5.0, 5.0, 5.0)


def test_one_seed_is_resampled_over_its_cases() -> None:
    # Draws of two cases from 0 and 10 average 0, 5 or 10 with probabilities 1/4, 1/2, 1/4.
    assert mean(arm([[0.0, 10]])) == Interval(5.0, 0.0, 10.0)


def test_arm_without_a_score_is_nan_throughout() -> None:
    empty = arm([[NAN, NAN], [NAN, NAN]])
    for interval in (mean(empty), interquartile_mean(empty), difference(empty, arm([[1.0, 2], [3, 4]]))):
        assert all(math.isnan(value) for value in (interval.estimate, interval.low, interval.high))


def test_performance_profile_is_the_share_above_each_threshold() -> None:
    # Above 0: all. Above 1: one of two in a, both in b: (1/2 + 1) / 2. Above 3: none, 3 itself is not.
    profile = performance_profile(arm([[1.0, 3], [2, 3]]), [0, 1, 3])
    assert [share.estimate for share in profile] == [1.0, 0.75, 0.0]
    assert profile[0] == Interval(1.0, 1.0, 1.0)


def test_difference_pairs_equal_seeds_of_equal_cases() -> None:
    # Scores vary by 100 and every pair differs by exactly 2: only pairing gives an interval of no width.
    base = [[0.0, 50], [100, 20]]
    gap = difference(arm((np.array(base) + 2).tolist()), arm(base, name="turn"))
    assert gap == Interval(2.0, 2.0, 2.0)


def test_difference_pairs_what_the_arms_share() -> None:
    # Seeds 0, 1 of three and cases b, a in another order: the pairs differ by 1 (a: 5 - 4 and 7 - 6) and by
    # 3 (b: 9 - 6); b of seed 1 failed. Case means 1 and 3.
    left = Arm("left", np.array([[5.0, 9], [7, NAN], [1000, 1000]]), (0, 1, 2), ("a", "b"))
    right = Arm("right", np.array([[6.0, 4], [8, 6]]), (0, 1), ("b", "a"))
    assert difference(left, right).estimate == 2.0


def test_other_seeds_are_compared_case_by_case() -> None:
    # Case a: (1 + 3) / 2 - 0 = 2, case b: 10 - 6 = 4. Only the right arm has case c.
    left = arm([[1.0, 10], [3, 10]])
    right = arm([[0.0, 6, 99], [0, 6, 99]], first_seed=5)
    gap = difference(left, right)
    assert gap.estimate == 3.0
    # Only the left arm's case a varies between its draws, 1, 2 or 3: the difference goes from 2.5 to 3.5.
    assert (gap.low, gap.high) == (2.5, 3.5)


def test_arms_without_a_common_case_are_compared_unpaired() -> None:
    left = Arm("left", np.array([[4.0], [4.0]]), (0, 1), ("a",))
    right = Arm("right", np.array([[1.0], [1.0]]), (0, 1), ("b",))
    assert difference(left, right) == Interval(3.0, 3.0, 3.0)
    assert math.isnan(probability_of_improvement(left, right).estimate)


def test_probability_of_improvement_counts_pairs_and_half_the_ties() -> None:
    # Case a: 2 beats 1, ties 2; 3 beats both: (1 + 0.5 + 1 + 1) / 4. Case b: 0 loses to 1 four times.
    chance = probability_of_improvement(arm([[2.0, 0], [3, 0]]), arm([[1.0, 1], [2, 1]]))
    assert chance.estimate == pytest.approx((3.5 / 4 + 0) / 2)


def test_missing_scores_take_no_part_in_the_probability() -> None:
    # Case a: only 2 against 1 is left. Case b: no score at all on the left.
    chance = probability_of_improvement(arm([[2.0, NAN], [NAN, NAN]]), arm([[1.0, 1], [NAN, 1]]))
    assert chance.estimate == 1.0


def test_verdict_names_the_better_arm_with_its_interval() -> None:
    better = arm([[10.0, 20], [12, 21], [11, 24]])
    worse = arm([[4.0, 15], [5, 15], [6, 15]], name="turn")
    # Differences by seed: (6, 5), (7, 6), (5, 9); case means 6 and 20/3.
    sentence = verdict(better, worse, "EPM-Q")
    assert sentence.startswith("mixed scores higher than turn in EPM-Q: +6.33, 95 % interval +")
    assert "paired by 2 cases and 3 seeds; probability of improvement 1.00 (1.00 to 1.00)" in sentence
    assert verdict(worse, better, "EPM-Q").startswith("turn scores lower than mixed in EPM-Q: -6.33")


def test_verdict_does_not_distinguish_what_chance_explains() -> None:
    sentence = verdict(arm([[1.0, 5], [3, 1]]), arm([[2.0, 3], [2, 3.5]], name="turn"), "EPM-Q")
    assert sentence.startswith("mixed and turn are not distinguishable in EPM-Q: ")


def test_one_lucky_seed_is_no_better_arm() -> None:
    # One seed gains 9 in all eight cases, the other two lose 1: within cases there seem to be 24 independent
    # pairs, but only one of three whole seeds gained.
    gaps = np.repeat([[9.0], [-1.0], [-1.0]], 8, axis=1)
    lucky, base = arm(gaps.tolist()), arm(np.zeros((3, 8)).tolist(), name="turn")
    assert difference(lucky, base).low > 0
    assert "not distinguishable" in verdict(lucky, base, "EPM-Q")
    assert "with whole seeds drawn" in verdict(lucky, base, "EPM-Q")


def test_verdict_on_one_value_claims_nothing() -> None:
    assert "one value per side" in verdict(arm([[9.0]]), arm([[1.0]], name="turn"), "EPM-Q")


def test_verdict_counts_missing_scores() -> None:
    sentence = verdict(arm([[9.0, NAN], [9, 8]]), arm([[1.0, 1], [1, 1]], name="turn"), "EPM-Q")
    assert "scores missing: 1 of mixed, 0 of turn" in sentence


@pytest.mark.parametrize(
    ("scores", "seeds", "cases", "message"),
    [
        ([[1.0]], (0, 1), ("a",), r"must be \[S, M\] = \[2, 1\], got \[1, 1\]"),
        ([[1.0], [2.0]], (3, 3), ("a",), r"seeds of x must be unique, got \[3, 3\]"),
        ([[math.inf]], (0,), ("a",), "must be finite"),
    ],
)
def test_bad_arm_is_refused(
    scores: list[list[float]], seeds: tuple[int, ...], cases: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Arm("x", np.array(scores), seeds, cases)


def test_bad_confidence_is_refused() -> None:
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got 95"):
        mean(arm([[1.0], [2.0]]), confidence=95)


SCORES = st.lists(
    st.lists(st.integers(-50, 50).map(float) | st.just(NAN), min_size=3, max_size=3), min_size=2, max_size=4
)


@settings(deadline=None, max_examples=20)
@given(SCORES, SCORES, st.randoms(use_true_random=False))
def test_order_of_seeds_and_cases_does_not_matter(
    left: list[list[float]], right: list[list[float]], random: Random
) -> None:
    a, b = arm(left), arm(right, first_seed=1)
    seeds, cases = list(a.seeds), list(a.cases)
    random.shuffle(seeds)
    random.shuffle(cases)
    turned = a.on(seeds, cases)
    for summary in (mean, interquartile_mean):
        np.testing.assert_array_equal(_numbers(summary(turned)), _numbers(summary(a)))
    for comparison in (difference, probability_of_improvement):
        np.testing.assert_array_equal(_numbers(comparison(turned, b)), _numbers(comparison(a, b)))


@settings(deadline=None, max_examples=20)
@given(SCORES, st.integers(-20, 20))
def test_shift_of_all_scores_shifts_summaries_and_no_comparison(
    scores: list[list[float]], shift: int
) -> None:
    a = arm(scores)
    moved = replace(a, scores=a.scores + shift)
    for summary in (mean, interquartile_mean):
        np.testing.assert_allclose(_numbers(summary(moved)), np.add(_numbers(summary(a)), shift), atol=1e-9)
    base = arm([[0.0, 1, 2], [3, 4, 5]], first_seed=1)
    moved_base = replace(base, scores=base.scores + shift)
    for comparison in (difference, probability_of_improvement):
        np.testing.assert_allclose(
            _numbers(comparison(moved, moved_base)), _numbers(comparison(a, base)), atol=1e-9
        )


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    # 100 experiments of 8 seeds in 6 cases whose true means are 0, 10 .. 50, noise of standard deviation 5.
    # The percentile bootstrap of 8 values is narrower than the truth by sqrt(7/8): nominal 95 % covers 93 %.
    # Of 100 experiments the share is within 0.93 +- 3 sqrt(0.93 * 0.07 / 100); the seed is fixed anyway.
    generator = np.random.default_rng(5)
    truth = np.arange(6) * 10.0
    hits = 0
    for _ in range(100):
        scores = truth + generator.normal(0, 5, size=(8, 6))
        interval = mean(Arm("simulated", scores, tuple(range(8)), tuple("abcdef")))
        hits += interval.low <= truth.mean() <= interval.high
    assert 0.93 - 0.077 <= hits / 100 <= 1


def _numbers(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high
