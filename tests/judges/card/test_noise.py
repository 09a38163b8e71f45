"""Statistics of repeats, on arrays small enough to check by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mica_ray.judges.card.noise import (
    Bootstrap,
    agreements,
    correlation,
    mean_of,
    pooled_noise,
    sign_flips,
    slopes,
)

NAN = math.nan
LEVELS = (-5.0, -4, -3, -2, -1, 0, 1, 3)


def over(num: int) -> Bootstrap:
    return Bootstrap(np.array([str(number) for number in range(num)]), resamples=50)


def test_noise_pools_the_variance_within_turns() -> None:
    # Turn 1: C is 0 and 3, squared deviations 2 * 1.5^2 = 4.5. Turn 2: C is 1, 1, 1. Degrees: 1 + 2 = 3.
    values = np.array([[[0, 0, 0], [3, 0, -3], [NAN] * 3], [[1, 2, 0], [1, 2, 0], [1, 2, 0]]])
    noise = pooled_noise(values)
    assert noise.degrees == 3
    assert noise.sd == {"C": pytest.approx(math.sqrt(1.5)), "A": 0, "P": pytest.approx(math.sqrt(1.5))}
    assert noise.covariance[0, 2] == pytest.approx(-1.5)  # P falls where C rises


def test_noise_needs_two_valid_repeats_of_a_turn() -> None:
    noise = pooled_noise(np.array([[[1, 1, 1], [NAN, 1, 1]]]))
    assert noise.degrees == 0 and math.isnan(noise.sd["A"])


def test_opposite_signs_are_counted_by_pairs_and_zero_is_no_sign() -> None:
    # C: of the pairs (+, -), (+, 0), (-, 0) one. A: none of three. P: of one pair one.
    values = np.array([[[1, 0, 3], [-2, 0, -5], [0, 1, NAN]]])
    found = sign_flips(values, over(1))
    assert [found[scope].estimate for scope in "CAP"] == pytest.approx([1 / 3, 0, 1])
    assert found["all"].estimate == pytest.approx(2 / 7)


def test_opposite_signs_without_a_pair_are_not_defined() -> None:
    assert math.isnan(sign_flips(np.array([[[1.0, 1, 1]]]), over(1))["C"].estimate)


def test_slope_by_hand_and_turns_without_a_score_are_left_out() -> None:
    values = np.array([[1.0, 0, 2], [3, 0, 2], [NAN] * 3, [7, 0, 2]])
    found = slopes(values, np.array([1.0, 2, 3, 4]), over(4))
    # C rises by 2 points per turn, the others do not; the mean of the axes by 2/3.
    assert [found[scope].estimate for scope in ("C", "A", "P", "all")] == pytest.approx([2, 0, 0, 2 / 3])
    assert found["C"].low <= 2 <= found["C"].high


def test_slope_along_a_constant_is_not_defined() -> None:
    assert math.isnan(slopes(np.ones((3, 3)), np.ones(3), over(3))["all"].estimate)


def test_correlation_has_a_sign_and_needs_both_to_vary() -> None:
    along = np.array([1.0, 2, 3])
    assert correlation(-2 * along, along, over(3)).estimate == pytest.approx(-1)
    assert math.isnan(correlation(np.ones(3), along, over(3)).estimate)


def test_mean_leaves_out_turns_without_a_score() -> None:
    found = mean_of(np.array([[1.0, 2, 3], [NAN] * 3, [3, 2, 1]]), over(3))
    assert [found[scope].estimate for scope in ("C", "A", "P", "all")] == [2, 2, 2, 2]
    assert math.isnan(mean_of(np.full((2, 3), NAN), over(2))["all"].estimate)


def test_the_bootstrap_resamples_dialogues() -> None:
    values = np.array([[0.0] * 3] * 4 + [[3.0] * 3] * 4)
    apart = Bootstrap(np.array([*"aaaabbbb"]), resamples=200)
    # Two dialogues: a resample has both (1.5) or one of them twice (0 or 3).
    assert (mean_of(values, apart)["C"].low, mean_of(values, apart)["C"].high) == (0, 3)


def test_agreement_over_all_axes_counts_every_axis_of_a_turn() -> None:
    rows = np.array([[[0.0, 1, 3], [1, 1, 0]], [[0, 1, 3], [1, 1, 0]]])
    found = agreements(rows, ("one", "two"), over(2), LEVELS)
    assert found["all"].num_items == 6 and found["C"].num_items == 2
    assert found["all"].alpha_ordinal.estimate == 1
    assert math.isnan(found["A"].alpha_ordinal.estimate)  # all ratings of A are equal


def test_points_outside_the_rubric_are_compared_too() -> None:
    rows = np.array([[[0.0, 0.25, 0]], [[0, 0.25, 1]]])
    assert agreements(rows, ("one", "two"), over(1), LEVELS)["P"].sign_disagreement == 1
