"""Alphas of many resamples agree with the package krippendorff, and with one resample after the other."""

from __future__ import annotations

import math

import krippendorff
import numpy as np
import pytest

from mica_ray.judges.agreement import RatingTable, agreement, bootstrap_cases, ordinal_alpha
from mica_ray.judges.alpha_resamples import alphas, coincidences, resampled_alphas

LEVELS = (-2.0, -1.0, 0.0, 1.0, 3.0)


def ratings(seed: int, *, raters: int = 3, items: int = 24) -> np.ndarray:
    """Correlated ratings, some missing, [raters, items]."""
    generator = np.random.default_rng(seed)
    true = generator.integers(len(LEVELS), size=items)
    noisy = np.clip(true + generator.integers(-1, 2, size=(raters, items)), 0, len(LEVELS) - 1)
    found = np.array(LEVELS)[noisy]
    found[generator.random(found.shape) < 0.2] = math.nan
    return found


def counts(table: np.ndarray) -> np.ndarray:
    return np.stack([(table == level).sum(axis=0) for level in LEVELS], axis=1)


def test_coincidences_of_one_item_by_hand() -> None:
    # Three ratings 0, 0, 1: the pairs (0, 0) twice, (0, 1) and (1, 0) twice each, divided by 3 - 1.
    assert coincidences(np.array([[2, 1]])).tolist() == [[[1, 1], [1, 0]]]
    assert coincidences(np.array([[1, 0]])).tolist() == [[[0, 0], [0, 0]]]


@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_that_of_the_package(seed: int) -> None:
    table = ratings(seed)
    expected = krippendorff.alpha(
        reliability_data=table, value_domain=list(LEVELS), level_of_measurement="ordinal"
    )
    found = alphas(coincidences(counts(table)).sum(axis=0)[None])
    assert found == pytest.approx([expected])
    assert ordinal_alpha(table, LEVELS) == pytest.approx(expected)


def test_equal_ratings_have_no_alpha() -> None:
    assert np.isnan(alphas(coincidences(np.array([[2, 0], [3, 0]])).sum(axis=0)[None])).all()
    assert np.isnan(resampled_alphas(np.zeros((0, 2)), np.array([]), seed=0, resamples=3)).all()


def test_interval_is_that_of_one_resample_after_the_other() -> None:
    table = ratings(7)
    cases = np.array([f"case-{item // 3}" for item in range(table.shape[1])])
    rated = RatingTable(table, ("a", "b", "c"), tuple(map(str, range(24))), tuple(cases), LEVELS)
    shared = (~np.isnan(table)).sum(axis=0) >= 2
    slow = bootstrap_cases(
        cases[shared],
        lambda items: ordinal_alpha(table[:, shared][:, items], LEVELS),
        seed=3,
        resamples=200,
    )
    fast = agreement(rated, seed=3, resamples=200).alpha_ordinal
    assert [fast.estimate, fast.low, fast.high] == pytest.approx([slow.estimate, slow.low, slow.high])
