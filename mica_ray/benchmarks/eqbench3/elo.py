"""Rank policies from comparisons: Bradley-Terry ratings on Elo's scale, and the judge's bias for a place.

Departure: EQ-Bench 3's own program fits TrueSkill to a sparse choice of comparisons with a fixed ladder of
models. Ratings from here are relative to the policies compared, and cannot be placed on that ladder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components

from mica_ray.benchmarks.eqbench3.pairwise import Comparison
from mica_ray.benchmarks.question import BenchmarkDataError
from mica_ray.statistics import RESAMPLES, Interval, bootstrap_mean, percentile_interval, wilson

ELO_MEAN = 1200.0
"""Mean rating of the compared policies."""
ELO_SCALE = 400 / math.log(10)
"""Points per unit of log-odds: 400 points are odds of 10 to 1."""
FULL_MARGIN = 30.0
"""Pluses of a margin that counts as a whole win (EQ-Bench 3)."""
PRIOR_DRAWS = 1.0
"""Draws added to every compared pair, so that a policy that wins every comparison has a finite rating."""

_MOST_STEPS = 200
_LONGEST_STEP = 1.0
"""Log-odds per step; Newton's method overshoots where one policy wins nearly everything."""
_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Ranking:
    """Ratings of policies and how the judge compared them."""

    elo: Mapping[str, Interval]
    """Rating of each policy; the interval resamples items."""
    win_fraction: Mapping[str, Interval]
    """Share of its pairs that a policy won, by the sum of both margins; a tie counts half. Intervals resample
    items."""
    num_compared: int
    """Pairs of conversations that were compared in both orders."""
    num_items: int
    first_wins: Interval
    """Share of decided comparisons that the policy shown first won; 0.5 without a preference for a place."""
    order_flips: Interval
    """Share of pairs, decided in both orders, whose winner changed with the order."""
    num_half: int
    """Pairs that lack a readable comparison in one order; they are left out."""
    num_invalid: int
    """Comparisons that could not be read."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two policies on one item and sample, compared in both orders."""

    item: str
    one: str
    other: str
    margins: tuple[float, float]
    """Margin of `one` when it was shown first, and when it was shown second."""


def win_share(margin: float) -> float:
    """Return the part of a win that a margin is worth.

        w = 1/2 + clip(margin / 30, -1, 1) / 2

    >>> win_share(0), win_share(15), win_share(-30), win_share(31)
    (0.5, 0.75, 0.0, 1.0)
    """
    return 0.5 + max(-1.0, min(1.0, margin / FULL_MARGIN)) / 2


def ranking(made: Sequence[Comparison], *, seed: int = 0) -> Ranking:
    """Rank the policies of comparisons.

    A pair counts if the judge compared it in both orders: the mean of the two cancels a bias for a place.

    Args:
        made: comparisons with and without a readable answer.
        seed: seed of the bootstrap.

    Raises:
        BenchmarkDataError: no comparisons link some policy with the others.
    """
    pairs, num_half = _pairs(made)
    models = list(dict.fromkeys(name for one in made for name in (one.matchup.first, one.matchup.second)))
    items = list(dict.fromkeys(pair.item for pair in pairs))
    wins = _wins([(pair, sum(map(win_share, pair.margins)) / 2) for pair in pairs], models, items)
    whole = _wins([(pair, (1 + np.sign(sum(pair.margins))) / 2) for pair in pairs], models, items)
    _check_linked(wins.sum(axis=0), models)
    decided = [one.margin for one in made if one.margin]
    both = [pair.margins for pair in pairs if all(pair.margins)]
    return Ranking(
        elo=dict(zip(models, _ratings(wins, seed=seed), strict=True)),
        win_fraction={
            name: _share(whole[:, number], whole[:, :, number], seed=seed)
            for number, name in enumerate(models)
        },
        num_compared=len(pairs),
        num_items=len(items),
        first_wins=wilson(sum(margin > 0 for margin in decided), len(decided)),
        order_flips=wilson(sum((first > 0) != (second > 0) for first, second in both), len(both)),
        num_half=num_half,
        num_invalid=sum(one.margin is None for one in made),
    )


def bradley_terry(wins: np.ndarray, linked: np.ndarray) -> np.ndarray:
    """Fit ratings to wins by Newton's method.

        P(i beats j) = 1 / (1 + 10^((E_j - E_i) / 400)),   fitted to wins + PRIOR_DRAWS / 2 of linked pairs

    Args:
        wins: [R, K, K], parts of wins of row over column; any number of resamples at once.
        linked: [K, K] bool, symmetric: pairs that were compared. They must connect all K.

    Returns:
        [R, K] ratings with mean ELO_MEAN.
    """
    weights = wins + PRIOR_DRAWS / 2 * linked
    games = weights + weights.swapaxes(1, 2)
    num = wins.shape[1]
    log_odds = np.zeros(wins.shape[:2])
    for _ in range(_MOST_STEPS):
        chance = 1 / (1 + np.exp(log_odds[:, None, :] - log_odds[:, :, None]))
        gradient = (weights - games * chance).sum(axis=2)
        curvature = games * chance * (1 - chance)
        # Only differences matter; the constant matrix fixes their mean at 0.
        matrix = np.eye(num) * curvature.sum(axis=2)[:, :, None] - curvature + 1 / num
        step = np.linalg.solve(matrix, gradient[:, :, None])[:, :, 0]
        log_odds += np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        if np.abs(step).max() < 1e-9:
            break
    return ELO_MEAN + ELO_SCALE * (log_odds - log_odds.mean(axis=1, keepdims=True))


def _pairs(made: Sequence[Comparison]) -> tuple[list[_Pair], int]:
    """Return the pairs with both orders, and the number of those with one."""
    margins = {
        (one.matchup.item.id, one.matchup.sample, one.matchup.first, one.matchup.second): one.margin
        for one in made
    }
    pairs: list[_Pair] = []
    num_half = 0
    seen: set[tuple[str, int, frozenset[str]]] = set()
    for item, sample, one, other in margins:
        if (place := (item, sample, frozenset((one, other)))) in seen:
            continue
        seen.add(place)
        first, second = margins[item, sample, one, other], margins.get((item, sample, other, one))
        if first is None or second is None:
            num_half += 1
            continue
        pairs.append(_Pair(item, one, other, (first, -second)))
    return pairs, num_half


def _wins(shares: Sequence[tuple[_Pair, float]], models: Sequence[str], items: Sequence[str]) -> np.ndarray:
    """Return [S, K, K]: parts of wins of row over column on each item."""
    wins = np.zeros((len(items), len(models), len(models)))
    for pair, share in shares:
        item, one, other = items.index(pair.item), models.index(pair.one), models.index(pair.other)
        wins[item, one, other] += share
        wins[item, other, one] += 1 - share
    return wins


def _check_linked(total: np.ndarray, models: Sequence[str]) -> None:
    count, labels = connected_components(total + total.T > 0, directed=False)
    if count > 1 or not models:
        lone = [name for name, label in zip(models, labels, strict=True) if label != labels[0]] or models
        raise BenchmarkDataError(
            f"No readable comparisons in both orders link {', '.join(lone) or 'any policy'} with the others. "
            "Use runs of the same items, or another judge."
        )


def _ratings(wins: np.ndarray, *, seed: int) -> list[Interval]:
    """Return the rating of each policy with an interval that resamples items."""
    num_items, num_models = wins.shape[:2]
    total = wins.sum(axis=0)
    linked = total + total.T > 0
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(num_items, [1 / num_items] * num_items, size=RESAMPLES)
    drawn = np.einsum("rs,sij->rij", counts.astype(float), wins)
    chunks = [bradley_terry(drawn[at : at + _CHUNK], linked) for at in range(0, RESAMPLES, _CHUNK)]
    ratings = bradley_terry(total[None], linked)[0]

    def of_model(number: int) -> Iterator[np.ndarray]:
        return (chunk[:, number] for chunk in chunks)

    return [
        percentile_interval(ratings[number], of_model(number), confidence=0.95)
        for number in range(num_models)
    ]


def _share(won: np.ndarray, lost: np.ndarray, *, seed: int) -> Interval:
    """Return the mean over items of the share of wins; items without a comparison are left out."""
    played = (won + lost).sum(axis=1)
    shares = won.sum(axis=1)[played > 0] / played[played > 0]
    return bootstrap_mean(shares, seed=seed)
