"""Confidence intervals: exact values where possible, coverage and reproducibility where they are sampled."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from mica_ray.statistics import bootstrap_mean, mean_of_middle_half, paired_difference, wilson


def test_equal_differences_give_an_interval_of_no_width() -> None:
    interval = paired_difference([1.0, 2.0, 5.0], [3.0, 4.0, 7.0], seed=0)  # every pair differs by 2
    assert (interval.estimate, interval.low, interval.high) == (2.0, 2.0, 2.0)


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
    assert math.isnan(bootstrap_mean([], seed=0).estimate)


def test_pairs_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        paired_difference([1.0, 2.0], [1.0], seed=0)


def test_middle_half_leaves_out_a_quarter_at_each_end_and_no_missing_score() -> None:
    # Six scores, two missing: floor(6 / 4) = 1 left out at each end, (1 + 2 + 6 + 10) / 4 = 4.75.
    scores = np.array([[[100.0, 2.0, math.nan, 1.0], [6.0, math.nan, 10.0, 0.0]]])
    assert mean_of_middle_half(scores).tolist() == [4.75]


def test_wilson_interval_of_one_in_ten() -> None:
    # n = 10, p = 0.1, z^2 = 3.8415: centre (0.1 + 0.19207) / 1.38415 = 0.21101,
    # half 1.96 sqrt(0.009 + 0.0096037) / 1.38415 = 0.19314.
    interval = wilson(1, 10)
    assert interval.estimate == 0.1
    assert interval.low == pytest.approx(0.0179, abs=1e-4)
    assert interval.high == pytest.approx(0.4042, abs=1e-4)


@pytest.mark.parametrize("successes", [-1, 11])
def test_more_successes_than_trials_are_refused(successes: int) -> None:
    with pytest.raises(ValueError, match=rf"successes must be in \[0, 10\], got {successes}\."):
        wilson(successes, 10)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 50), st.integers(1, 50))
def test_wilson_brackets_the_share_and_stays_a_share(successes: int, extra: int) -> None:
    interval = wilson(successes, successes + extra)
    assert 0 <= interval.low <= interval.estimate + 1e-12 and interval.estimate <= interval.high <= 1
