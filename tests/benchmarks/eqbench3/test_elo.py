"""Ratings against values from the formula, and what the order of a comparison shows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mica_ray.benchmarks.eqbench3.elo import ELO_MEAN, bradley_terry, ranking, win_share
from mica_ray.benchmarks.eqbench3.items import Item
from mica_ray.benchmarks.eqbench3.pairwise import Comparison, Matchup
from mica_ray.benchmarks.question import BenchmarkDataError


def pair(
    item: str, one: str, other: str, first: float | None, second: float | None, sample: int = 0
) -> list[Comparison]:
    """Return both orders: the margin of `one` when it is shown first, and that of `other` when it is."""
    of_item = Item(item, "role-play", "Work", ("Hello.",))
    return [
        Comparison(Matchup(of_item, sample, one, other), first),
        Comparison(Matchup(of_item, sample, other, one), second),
    ]


@pytest.mark.parametrize(
    ("margin", "share"), [(0, 0.5), (6, 0.6), (-6, 0.4), (29, 1 - 1 / 60), (30, 1.0), (31, 1.0), (-31, 0.0)]
)
def test_margin_of_30_is_a_whole_win(margin: float, share: float) -> None:
    assert win_share(margin) == pytest.approx(share)


def test_two_ratings_differ_by_the_odds_of_their_wins() -> None:
    # 9 wins to 0, and half a win to each from the added draw: odds 19, 400 log10(19) = 511.5 points.
    ratings = bradley_terry(np.array([[[0.0, 9.0], [0.0, 0.0]]]), np.array([[False, True], [True, False]]))
    assert ratings[0, 0] - ratings[0, 1] == pytest.approx(400 * math.log10(19))
    assert ratings.mean() == pytest.approx(ELO_MEAN)


def test_extreme_wins_converge() -> None:
    linked = ~np.eye(3, dtype=bool)
    wins = np.zeros((2, 3, 3))
    wins[0, 0, 1] = wins[0, 1, 2] = wins[0, 0, 2] = 10_000.0
    strong, even = bradley_terry(wins, linked)
    assert strong[0] > strong[1] > strong[2] and np.isfinite(strong).all()
    # At the maximum, the expected wins of each policy equal those that it has.
    expected = 1 / (1 + 10 ** ((strong[None, :] - strong[:, None]) / 400))
    weights = wins[0] + 0.5 * linked
    assert ((weights + weights.T) * expected).sum(axis=1) == pytest.approx(weights.sum(axis=1), rel=1e-6)
    assert even == pytest.approx([ELO_MEAN] * 3)


def test_both_orders_are_averaged() -> None:
    # Shown first, each wins by 30: no difference between the policies, only a bias for the first place.
    found = ranking([*pair("1", "a", "b", 30, 30), *pair("2", "a", "b", 30, 30)])
    assert found.elo["a"].estimate == pytest.approx(found.elo["b"].estimate) == pytest.approx(ELO_MEAN)
    assert found.win_fraction["a"].estimate == 0.5
    assert (found.first_wins.estimate, found.order_flips.estimate) == (1.0, 1.0)


def test_ratings_follow_margins_and_win_fraction_follows_winners() -> None:
    # Item 1: a wins by 12 and by 6, win shares 0.7 and 0.6. Item 2: by 18 twice, 0.8.
    found = ranking([*pair("1", "a", "b", 12, -6), *pair("2", "a", "b", 18, -18)])
    # Wins (0.65 + 0.8) of 2; with the draw 1.95 of 3: odds 1.95 / 1.05.
    assert found.elo["a"].estimate - found.elo["b"].estimate == pytest.approx(400 * math.log10(1.95 / 1.05))
    assert (found.win_fraction["a"].estimate, found.win_fraction["b"].estimate) == (1.0, 0.0)
    assert (found.num_compared, found.num_items) == (2, 2)
    # Two of four comparisons were won by the policy shown first; no winner changed.
    assert (found.first_wins.estimate, found.order_flips.estimate) == (0.5, 0.0)
    assert found.elo["a"].low <= found.elo["a"].estimate <= found.elo["a"].high


def test_interval_resamples_items() -> None:
    # The samples of one item agree, so with a single item nothing varies.
    one = ranking([*pair("1", "a", "b", 12, -12), *pair("1", "a", "b", -6, 6, sample=1)])
    assert one.elo["a"].low == pytest.approx(one.elo["a"].high)
    two = ranking([*pair("1", "a", "b", 12, -12), *pair("2", "a", "b", -6, 6)])
    assert two.elo["a"].low < two.elo["a"].estimate < two.elo["a"].high


def test_pair_without_both_orders_is_left_out_and_counted() -> None:
    found = ranking(
        [*pair("1", "a", "b", 6, -6), *pair("2", "a", "b", 30, None), *pair("3", "a", "b", None, -30)[:1]]
    )
    assert (found.num_compared, found.num_half, found.num_invalid) == (1, 2, 2)
    assert found.elo["a"].estimate - found.elo["b"].estimate == pytest.approx(400 * math.log10(1.1 / 0.9))


def test_tie_counts_half_and_decides_no_order() -> None:
    found = ranking(pair("1", "a", "b", 0, 0))
    assert found.win_fraction["a"].estimate == 0.5
    assert math.isnan(found.first_wins.estimate) and math.isnan(found.order_flips.estimate)


def test_third_policy_is_rated_through_the_second() -> None:
    found = ranking([*pair("1", "a", "b", 12, -12), *pair("1", "b", "c", 12, -12)])
    a, b, c = (found.elo[name].estimate for name in "abc")
    # Each pair: 0.7 of a win and a draw, 1.2 of 2.
    assert a - b == pytest.approx(b - c) == pytest.approx(400 * math.log10(1.2 / 0.8))
    # Only b met two others; it won one of its two pairs.
    assert [found.win_fraction[name].estimate for name in "abc"] == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    "made", [[], pair("1", "a", "b", None, 3), pair("1", "a", "b", 3, -3) + pair("1", "c", "d", 3, -3)]
)
def test_policies_without_a_link_are_refused(made: list[Comparison]) -> None:
    with pytest.raises(BenchmarkDataError, match="No readable comparisons in both orders"):
        ranking(made)
