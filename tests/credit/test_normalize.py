"""Segment statistics: centring, scaling, single members, constants, and invalid entries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mica_ray.credit.normalize import group_segments, segment_sizes, standardize, turn_segments

ONE = np.zeros(3, dtype=np.int64)
ALL = np.ones(3, dtype=bool)


def test_zscore_by_hand() -> None:
    # Mean 3, deviations -2, 0, 2, population std sqrt(8 / 3).
    z = standardize(np.array([1.0, 3.0, 5.0]), ALL, segments=ONE)
    np.testing.assert_allclose(z, np.array([-2.0, 0.0, 2.0]) / np.sqrt(8 / 3), atol=1e-5)


def test_leave_one_out_subtracts_the_mean_of_the_others() -> None:
    # 1 - (3 + 5) / 2 = -3;  3 - (1 + 5) / 2 = 0;  5 - (1 + 3) / 2 = 3.
    z = standardize(np.array([1.0, 3.0, 5.0]), ALL, segments=ONE, baseline="leave_one_out", divide=False)
    np.testing.assert_allclose(z, [-3.0, 0.0, 3.0])


def test_leave_one_out_of_two_is_their_difference() -> None:
    # 1 - 3 and 3 - 1; divided by the population std 1.
    values, segments = np.array([1.0, 3.0]), np.zeros(2, dtype=np.int64)
    for divide in (False, True):
        z = standardize(values, np.ones(2, bool), segments=segments, baseline="leave_one_out", divide=divide)
        np.testing.assert_allclose(z, [-2.0, 2.0], atol=1e-5)


def test_leave_one_out_is_divided_by_the_deviation_of_all() -> None:
    z = standardize(np.array([1.0, 3.0, 5.0]), ALL, segments=ONE, baseline="leave_one_out")
    np.testing.assert_allclose(z, np.array([-3.0, 0.0, 3.0]) / np.sqrt(8 / 3), atol=1e-5)


def test_eps_halves_the_score_of_a_deviation_of_its_size() -> None:
    # Std 1e-6, to which EPS = 1e-6 is added.
    z = standardize(np.array([-1e-6, 1e-6]), np.ones(2, bool), segments=np.zeros(2, dtype=np.int64))
    np.testing.assert_allclose(z, [-0.5, 0.5])


@pytest.mark.parametrize("scale", [1.0, -1e3])
def test_segment_is_constant_below_a_share_of_its_largest_value(scale: float) -> None:
    # Stds of 0.5e-10 and 2e-10 times the largest value, around the tolerance of 1e-10.
    for difference, is_constant in ((1e-10, True), (4e-10, False)):
        values = scale * np.array([1.0, 1.0 + difference])
        z = standardize(values, np.ones(2, bool), segments=np.zeros(2, dtype=np.int64), divide=False)
        assert z.any() != is_constant


def test_numbers_of_segments_have_no_gaps() -> None:
    np.testing.assert_array_equal(turn_segments(np.array([4, 9]), 1), [[0], [1]])
    assert turn_segments(np.array([4, 9]), 0).shape == (2, 0)
    assert turn_segments(np.zeros(0, dtype=np.int64), 3).shape == (0, 3)
    assert turn_segments(np.array([4, 9]), 2).dtype == group_segments(np.array([4, 9]), 2).dtype == np.int64


def test_segment_without_a_valid_member_has_size_zero() -> None:
    np.testing.assert_array_equal(segment_sizes(np.array([True, False]), np.array([0, 1])), [1, 0])
    assert segment_sizes(np.zeros((0, 3), bool), np.zeros((0, 3), np.int64)).shape == (0, 3)


def test_segments_do_not_see_each_other() -> None:
    values = np.array([1.0, 2.0, 100.0, 300.0])
    z = standardize(values, np.ones(4, bool), segments=np.array([0, 0, 1, 1]), divide=False)
    np.testing.assert_allclose(z, [-0.5, 0.5, -100.0, 100.0])


def test_lone_member_gets_exactly_zero() -> None:
    z = standardize(np.array([7.0, 1.0, 3.0]), np.array([True, False, False]), segments=ONE)
    np.testing.assert_array_equal(z, [0.0, 0.0, 0.0])


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
@pytest.mark.parametrize("divide", [True, False])
def test_constant_segment_gets_exactly_zero(baseline: str, divide: bool) -> None:
    # The fp64 mean of seven times 1e9 / 7 is off by rounding, which would otherwise become a z of -0.03.
    z = standardize(
        np.full(7, 1e9 / 7),
        np.ones(7, bool),
        segments=np.zeros(7, dtype=np.int64),
        baseline=baseline,  # pyright: ignore[reportArgumentType]
        divide=divide,
    )
    np.testing.assert_array_equal(z, np.zeros(7))


def test_turn_segments_pair_group_and_turn_whatever_the_group_numbers() -> None:
    np.testing.assert_array_equal(turn_segments(np.array([-5, 90, -5]), 2), [[0, 1], [2, 3], [0, 1]])
    np.testing.assert_array_equal(group_segments(np.array([-5, 90, -5]), 2), [[0, 0], [1, 1], [0, 0]])


def test_segment_sizes_count_valid_members_only() -> None:
    sizes = segment_sizes(np.array([True, True, False, True]), np.array([0, 0, 0, 1]))
    np.testing.assert_array_equal(sizes, [2, 2, 2, 1])


def test_value_that_is_not_finite_is_refused() -> None:
    message = (
        r"values must be finite where valid, got 2 of 3 with NaN or infinity\. Mark turns without a reward"
    )
    with pytest.raises(ValueError, match=message):
        standardize(np.array([1.0, np.nan, -np.inf]), ALL, segments=ONE)
    only_first = np.array([True, False, False])
    assert not standardize(np.array([1.0, np.nan, -np.inf]), only_first, segments=ONE).any()


def test_shapes_that_disagree_are_refused() -> None:
    short = np.zeros(2)
    for values, valid, segments in ((short, ALL, ONE), (ONE, ALL[:2], ONE), (ONE, ALL, ONE[:2])):
        shapes = rf"got \({len(values)},\), \({len(valid)},\) and \({len(segments)},\)\."
        with pytest.raises(ValueError, match=f"values, valid and segments must have one shape, {shapes}"):
            standardize(values, valid, segments=segments)


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, st.integers(2, 9), elements=st.floats(-100, 100)))
def test_zscores_obey_samuelson_and_have_variance_at_most_one(values: np.ndarray) -> None:
    z = standardize(values, np.ones(values.shape, bool), segments=np.zeros(values.shape, np.int64))
    # Population form of Samuelson's inequality: |z| <= sqrt(n - 1); 1e-9 is rounding.
    assert np.abs(z).max() <= np.sqrt(len(values) - 1) + 1e-9
    assert np.mean(z**2) <= 1 + 1e-9
    assert abs(z.sum()) <= 1e-6


def test_samuelson_bound_is_reached_by_one_spike() -> None:
    # One of n = 5 differs: z = sqrt(5 - 1) = 2.
    z = standardize(np.array([0.0, 0, 0, 0, 1]), np.ones(5, bool), segments=np.zeros(5, np.int64))
    assert z[-1] == pytest.approx(2.0, abs=1e-4)
