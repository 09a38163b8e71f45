"""Statistics of agreement, on tables small enough to check by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.judges.agreement import (
    RatingTable,
    agreement,
    bootstrap_cases,
    intraclass_correlation,
    ordinal_alpha,
    quadratic_kappa,
)

NAN = math.nan
LEVELS = (-1.0, -0.5, 0.5, 1.0)


def table(ratings: list[list[float]], cases: tuple[str, ...] | None = None) -> RatingTable:
    items = tuple(f"item-{number}" for number in range(len(ratings[0])))
    raters = tuple("abcdef"[: len(ratings)])
    return RatingTable(np.array(ratings), raters, items, cases or items, LEVELS)


def test_equal_ratings_agree_completely() -> None:
    found = agreement(table([[-1, 0.5, 1], [-1, 0.5, 1]]))
    assert found.alpha_ordinal.estimate == 1
    assert found.kappa_quadratic == {("a", "b"): 1}
    assert found.icc == pytest.approx(1)
    assert found.sign_disagreement == 0


def test_alpha_by_hand() -> None:
    # Two raters, three items, two levels: pairs (0, 0), (1, 1), (0, 1). Observed disagreement: 1 of 3 items.
    # Of 6 values 3 are 0 and 3 are 1, so 2 * 3 * 3 / (6 * 5) = 0.6 is expected: 1 - (1/3) / 0.6 = 4/9.
    assert ordinal_alpha(np.array([[0.0, 1, 0], [0, 1, 1]]), (0, 1)) == pytest.approx(4 / 9)


def test_ordinal_alpha_punishes_a_far_level_more_than_a_near_one() -> None:
    steady = [-1.0, -0.5, 0.5, 1.0, -1.0, 1.0]
    near, far = [*steady[:5], 0.5], [*steady[:5], -1.0]
    alphas = [ordinal_alpha(np.array([steady, other]), LEVELS) for other in (near, far)]
    assert alphas[0] > alphas[1]


def test_items_with_one_rating_say_nothing() -> None:
    complete = agreement(table([[-1, 0.5, 1, 1], [-1, 1, 1, 0.5]]))
    padded = agreement(table([[-1, 0.5, 1, 1, NAN], [-1, 1, 1, 0.5, -1]]))
    assert padded == complete
    assert (padded.num_items, padded.num_ratings) == (4, 8)


def test_kappa_by_hand() -> None:
    # Levels 0, 1, 2, 3; ratings (0, 0), (0, 3), (3, 3). Observed: 9 / 3 = 3 per item.
    # Expected: first rater 0, 0, 3 and second 0, 3, 3: P(differ) = 2/3 * 2/3 + 1/3 * 1/3 = 5/9, times 9 = 5.
    first, second = np.array([-1.0, -1, 1]), np.array([-1.0, 1, 1])
    assert quadratic_kappa(first, second, LEVELS) == pytest.approx(1 - 3 / 5)


def test_kappa_counts_steps_between_levels_and_not_their_distance() -> None:
    # -0.5 and 0.5 are neighbours, 1 apart; -1 and -0.5 are neighbours, 0.5 apart.
    wide = quadratic_kappa(np.array([-1.0, -0.5, 1]), np.array([-1.0, 0.5, 1]), LEVELS)
    stretched = quadratic_kappa(np.array([0.0, 1, 3]), np.array([0.0, 2, 3]), (0, 1, 2, 3))
    assert wide == pytest.approx(stretched)


def test_kappa_uses_the_items_that_both_rated() -> None:
    first, second = np.array([-1.0, 1, NAN, 0.5]), np.array([-1.0, 1, 1, NAN])
    assert quadratic_kappa(first, second, LEVELS) == 1
    assert math.isnan(quadratic_kappa(first[2:], second[2:], LEVELS))


def test_sign_disagreement_is_a_share_of_items() -> None:
    # Item 1 has both signs, item 3 one rating only: 1 of 3.
    found = agreement(table([[0.5, -0.5, -1, 1], [1, 0.5, -0.5, NAN]]))
    assert found.sign_disagreement == pytest.approx(1 / 3)


def test_icc_of_the_published_example() -> None:
    # Shrout and Fleiss 1979, table 2: six targets, four judges; ICC(2,1) = 0.29.
    scores = np.array(
        [[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]], float
    )
    assert intraclass_correlation(scores) == pytest.approx(0.29, abs=0.005)
    assert intraclass_correlation(np.hstack([scores, [[1.0], [NAN], [1], [1]]])) == pytest.approx(
        intraclass_correlation(scores)
    )


def test_one_level_defines_no_statistic() -> None:
    found = agreement(table([[1, 1, 1], [1, 1, 1]]))
    assert math.isnan(found.alpha_ordinal.estimate)
    assert math.isnan(found.kappa_quadratic["a", "b"])
    assert math.isnan(found.icc)


def test_bootstrap_resamples_cases_and_not_items() -> None:
    # All items of a case move together, so with one case there is nothing to resample.
    values = np.array([1.0, 2.0, 3.0, 4.0])
    one = bootstrap_cases(np.array(["a"] * 4), lambda items: values[items].mean(), seed=0, resamples=50)
    assert (one.low, one.estimate, one.high) == (2.5, 2.5, 2.5)
    # Two cases with the means 1.5 and 3.5: every resample has the mean 1.5, 2.5 or 3.5.
    two = bootstrap_cases(np.array(list("aabb")), lambda items: values[items].mean(), seed=0, resamples=200)
    assert (two.low, two.estimate, two.high) == (1.5, 2.5, 3.5)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(*[st.sampled_from(LEVELS)] * 3), min_size=2, max_size=8))
def test_order_of_raters_and_items_does_not_matter(rows: list[tuple[float, ...]]) -> None:
    ratings = np.array(rows).T
    shuffled = ratings[::-1][:, np.random.default_rng(0).permutation(ratings.shape[1])]
    for statistic in (lambda r: ordinal_alpha(r, LEVELS), intraclass_correlation):
        np.testing.assert_allclose(statistic(ratings), statistic(shuffled), atol=1e-9)


@pytest.mark.parametrize(
    ("ratings", "problem"),
    [
        ([[1.0, -1.0]], "at least 2 raters"),
        ([[1.0, -1.0], [0.0, 1.0]], r"must be one of .*got \[0.0\]"),
    ],
)
def test_impossible_tables_are_refused(ratings: list[list[float]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        table(ratings)
