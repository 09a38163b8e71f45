"""Confidence intervals: exact values where possible, coverage and reproducibility where they are sampled."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from mica_ray.statistics import (
    RESAMPLES,
    Interval,
    bootstrap_mean,
    chance_of_more,
    mean_of_case_means,
    mean_of_middle_half,
    mean_of_part_means,
    paired_difference,
    percentile_interval,
    resample,
    wilson,
)


def test_equal_differences_give_an_interval_of_no_width() -> None:
    interval = paired_difference([1.0, 2.0, 5.0], [3.0, 4.0, 7.0], seed=0)  # every pair differs by 2
    assert (interval.estimate, interval.low, interval.high) == (2.0, 2.0, 2.0)


def test_parts_count_equally_and_are_resampled_apart() -> None:
    # Part means 0.5 and 4: 2.25. Each part keeps its size, so a resampled mean is (0, 0.5 or 1 + 4) / 2.
    found = mean_of_part_means([[0.0, 1.0], [4.0]], seed=3)
    assert (found.estimate, found.low, found.high) == (2.25, 2.0, 2.5)
    assert mean_of_part_means([[0.0, 1.0, 5.0]], seed=3) == bootstrap_mean([0.0, 1.0, 5.0], seed=3)


def test_empty_part_leaves_the_mean_undefined() -> None:
    for parts in ([], [[]], [[1.0], []]):
        assert math.isnan(mean_of_part_means(parts, seed=0).estimate)


def test_bootstrap_agrees_with_the_normal_interval_on_many_values() -> None:
    # Standard error of the mean of 400 values 0, 1 in equal parts: 0.5 / 20 = 0.025, so 95 % is 0.5 -+ 0.049.
    interval = bootstrap_mean(np.arange(400) % 2, seed=1)
    assert interval.low == pytest.approx(
        0.451, abs=0.003
    )  # quantiles of 10 000 draws: Monte-Carlo error below 0.002
    assert interval.high == pytest.approx(0.549, abs=0.003)


def test_bootstrap_is_a_function_of_its_seed() -> None:
    values = [1.0, 4.0, 9.0, 16.0]
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)


def test_bootstrap_agrees_with_scipy() -> None:
    # scipy draws the same resamples from the same generator; 1e-12 covers its order of interpolation.
    values = np.array([0.0, 1.0, 4.0, 9.0, 25.0])
    interval = bootstrap_mean(values, seed=1, confidence=0.9)
    expected = bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", confidence_level=0.9,
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, math.nan])
def test_confidence_outside_the_unit_interval_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got "):
        bootstrap_mean([1.0, 2.0], seed=0, confidence=confidence)


def test_no_values_give_nan_and_not_an_error() -> None:
    for interval in (
        bootstrap_mean([], seed=0),
        percentile_interval(1.0, iter(()), confidence=0.9),
    ):
        assert np.isnan([interval.estimate, interval.low, interval.high]).all()


def test_single_value_has_an_interval_of_no_width() -> None:
    assert bootstrap_mean([3.5], seed=0) == Interval(3.5, 3.5, 3.5)


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"values must be \[S\], got shape \(2, 3\)\."):
        bootstrap_mean(np.zeros((2, 3)), seed=0)


@pytest.mark.parametrize("confidence", [1e-9, 0.5, 1 - 1e-9])
def test_confidence_inside_the_unit_interval_is_accepted(confidence: float) -> None:
    # Means of two draws from 0, 1, 2 are between 0 and 2; the narrowest interval contains their median, 1.
    interval = bootstrap_mean([0.0, 1.0, 2.0], seed=0, confidence=confidence)
    assert 0 <= interval.low <= 1 <= interval.high <= 2


def test_pairs_are_differences_of_after_and_before() -> None:
    before, after = [1.0, 2.0, 9.0, 4.0], [3.0, 1.0, 9.5, 0.0]
    expected = bootstrap_mean([2.0, -1.0, 0.5, -4.0], seed=7, confidence=0.5)
    assert paired_difference(before, after, seed=7, confidence=0.5) == expected


def test_pairs_of_yes_and_no_count_as_one_and_zero() -> None:
    assert paired_difference([True, False], [True, True], seed=0).estimate == 0.5


def test_pairs_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have one value per scenario, got 2 and 1 values\."):
        paired_difference([1.0, 2.0], [1.0], seed=0)


SCORES = np.array([[4.0, 1.0], [2.0, np.nan], [6.0, 5.0]])
"""Three seeds, two cases; the second case has no score of seed 1."""


@pytest.mark.parametrize("within_cases", [True, False])
def test_resamples_are_drawn_in_chunks_of_bounded_size(within_cases: bool) -> None:
    chunks = list(resample(SCORES, within_cases=within_cases, seed=0))
    assert {len(chunk) for chunk in chunks} == {500}
    assert sum(map(len, chunks)) == RESAMPLES == 10_000
    assert len(np.unique(np.concatenate(chunks), axis=0)) > 1
    again = resample(SCORES[[2, 0, 1]], within_cases=within_cases, seed=0)
    for chunk, other in zip(chunks, again, strict=True):
        np.testing.assert_array_equal(chunk, other)  # the order of the seeds does not matter
    other_seed = next(resample(SCORES, within_cases=within_cases, seed=1))
    assert not np.array_equal(chunks[0], other_seed, equal_nan=True)


def test_resample_within_cases_draws_from_the_scores_of_each_case() -> None:
    drawn = np.concatenate(list(resample(SCORES, within_cases=True, seed=0)))
    assert drawn.shape == (RESAMPLES, 3, 2)
    # Case 1 has two scores, so each resample of it has two, in the first places.
    assert (
        np.isnan(drawn[:, 2, 1]).all()
        and not np.isnan(drawn[:, :2]).any()
        and not np.isnan(drawn[:, 2, 0]).any()
    )
    for case, scores in ((drawn[:, :, 0], [2, 4, 6]), (drawn[:, :2, 1], [1, 5])):
        values, counts = np.unique(case, return_counts=True)
        assert values.tolist() == scores
        # Each score has the same chance. Of 20 000 draws or more, 4 % is more than five standard errors.
        assert np.abs(counts / counts.mean() - 1).max() < 0.04


def test_resample_of_cases_keeps_each_case_whole() -> None:
    drawn = np.concatenate(list(resample(SCORES, within_cases=False, seed=0)))
    assert drawn.shape == (RESAMPLES, 3, 2)
    columns = {tuple(np.nan_to_num(column, nan=-1.0)) for pair in drawn[:500] for column in pair.T}
    assert columns == {(2.0, 4.0, 6.0), (1.0, 5.0, -1.0)}  # sorted, the missing score last
    assert np.isnan(drawn[:, 2]).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("within_cases", [True, False])
def test_no_case_has_no_resample(within_cases: bool) -> None:
    assert list(resample(np.zeros((3, 0)), within_cases=within_cases, seed=0)) == []


def test_percentile_interval_reads_all_chunks() -> None:
    # The quarter and three quarters of 0, 1, 2, 3, 4 are 1 and 3.
    chunks = iter([np.array([4.0, 0.0]), np.array([1.0, 3.0, 2.0])])
    assert percentile_interval(2.5, chunks, 0.5) == Interval(2.5, 1.0, 3.0)
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got 1\."):
        percentile_interval(2.5, iter([np.zeros(2)]), 1)


def test_case_means_weigh_cases_equally() -> None:
    # (2 + 4 + 6) / 3 = 4 and (1 + 5) / 2 = 3; and of the doubled scores twice that.
    stacked = np.stack([SCORES, 2 * SCORES])
    assert mean_of_case_means(stacked).tolist() == [3.5, 7.0]
    assert np.isnan(mean_of_case_means(np.zeros((2, 3, 0)))).tolist() == [True, True]


def test_chance_of_more_counts_pairs_of_a_case() -> None:
    # Case 0: 3 > 1, 3 > 2, 2 > 1, 2 = 2: 3.5 of 4. Case 1: only 1 < 5 and 9 > 5: 1 of 2.
    left = np.array([[[3.0, 1.0], [2.0, 9.0]]])
    right = np.array([[[1.0, math.nan], [2.0, 5.0]]])
    assert chance_of_more(left, right).tolist() == [[0.875, 0.5]]


def test_middle_half_leaves_out_a_quarter_at_each_end_and_no_missing_score() -> None:
    # Six scores, two missing: floor(6 / 4) = 1 left out at each end, (1 + 2 + 6 + 10) / 4 = 4.75.
    scores = np.array([[[100.0, 2.0, math.nan, 1.0], [6.0, math.nan, 10.0, 0.0]]])
    assert mean_of_middle_half(scores).tolist() == [4.75]


@pytest.mark.parametrize(("size", "expected"), [(1, 9.0), (3, 4.0), (4, 2.0), (8, 2.5)])
def test_middle_half_cuts_whole_quarters_only(size: int, expected: float) -> None:
    # Of 9, 0, 3: none is cut. Of 9, 0, 3, 1: 0 and 9 are. Of 9, 0, 3, 1, 2, 8, -5, 4: two at each end.
    values = [9.0, 0.0, 3.0, 1.0, 2.0, 8.0, -5.0, 4.0][:size]
    scores = np.array([[values], [[2 * value for value in values]]])
    assert mean_of_middle_half(scores).tolist() == [expected, 2 * expected]


def test_middle_half_of_nothing_is_nan() -> None:
    assert np.isnan(mean_of_middle_half(np.full((1, 1, 2), math.nan))).tolist() == [True]


def test_wilson_interval_of_one_in_ten() -> None:
    # n = 10, p = 0.1, z^2 = 3.8415: centre (0.1 + 0.19207) / 1.38415 = 0.21101,
    # half 1.96 sqrt(0.009 + 0.0096037) / 1.38415 = 0.19314.
    interval = wilson(1, 10)
    assert interval.estimate == 0.1
    assert interval.low == pytest.approx(0.0179, abs=1e-4)
    assert interval.high == pytest.approx(0.4042, abs=1e-4)


def test_wilson_interval_ends_at_zero_and_one() -> None:
    # p = 0: low 0, high (z^2 / n) / (1 + z^2 / n) = 0.38415 / 1.38415; p = 1 is its mirror image.
    none, every = wilson(0, 10), wilson(10, 10)
    assert (none.estimate, none.low, every.estimate) == (0.0, 0.0, 1.0)
    assert (none.high, every.low) == pytest.approx((0.27753, 0.72247), abs=1e-5)
    for total in range(1, 60):
        # 1e-15: rounding of the centre and of the half width, which may only lead inwards.
        assert 0.0 <= wilson(0, total).low <= 1e-15 and 1 - 1e-15 <= wilson(total, total).high <= 1.0


def test_wilson_interval_of_nothing_is_everything() -> None:
    interval = wilson(0, 0)
    assert math.isnan(interval.estimate)
    assert (interval.low, interval.high) == (0.0, 1.0)


@pytest.mark.parametrize("successes", [-1, 11])
def test_more_successes_than_trials_are_refused(successes: int) -> None:
    with pytest.raises(ValueError, match=rf"successes must be in \[0, 10\], got {successes}\."):
        wilson(successes, 10)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 50), st.integers(1, 50))
def test_wilson_brackets_the_share_and_stays_a_share(successes: int, extra: int) -> None:
    interval = wilson(successes, successes + extra)
    assert 0 <= interval.low <= interval.estimate + 1e-12 and interval.estimate <= interval.high <= 1
