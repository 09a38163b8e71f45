"""The nine indicators behind a card's initial deficit (EMPA, arXiv 2603.00552), and what follows from it.

Numbers only: who gives the levels is `card_ratings.py` (files) and `card_rater.py` (a judge model).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mica_ray.types import State

INDICATOR_WEIGHTS: Mapping[str, float] = {
    "C.1": 1.0, "C.2": 1.0, "C.3": 1.5,
    "A.1": 1.0, "A.2": 2.0, "A.3": 1.5,
    "P.1": 1.0, "P.2": 2.0, "P.3": 1.5,
}  # fmt: skip
"""Weight of each indicator, in the order of the axes C, A, P of every state vector."""

LEVELS = (0, 1, 2, 3)
"""The levels of every indicator."""

_POINTS_PER_LEVEL = -2.0
"""Points of one level at weight 1."""

_DIFFICULTIES: tuple[tuple[float, str], ...] = ((27.8, "较易"), (32.3, "中等"), (36.8, "困难"))
"""Norms of P_0 below which a card is so called: mean 32.3 less and plus one deviation of 4.5 points over the
395 published cards. They give back the difficulty of all 30 official cases."""

_HARDEST = "极难"


class IndicatorError(ValueError):
    """Levels that cannot be used; `field` names the indicator."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def initial_state(levels: Mapping[str, object]) -> State:
    """Give the deficit that nine indicator levels stand for.

        P_0[axis] = sum over the axis' indicators of weight * (-2) * level      EMPA, arXiv 2603.00552

    Other keys of the mapping are passed over.

    Args:
        levels: level 0..3 by indicator, "C.1" to "P.3".

    Returns:
        (C, A, P), points; C in [-21, 0], A and P in [-27, 0].

    Raises:
        IndicatorError: an indicator is missing, a level is out of range, or all levels are 0.
    """
    points = {"C": 0.0, "A": 0.0, "P": 0.0}
    for name, level in checked_levels(levels).items():
        points[name[0]] += INDICATOR_WEIGHTS[name] * _POINTS_PER_LEVEL * level
    if not any(points.values()):
        raise IndicatorError("levels", "all are 0, which is a person without any need")
    return points["C"], points["A"], points["P"]


def checked_levels(levels: Mapping[str, object]) -> dict[str, int]:
    """Give the nine levels in order.

    Raises:
        IndicatorError: one is missing or no whole number from 0 to 3.
    """
    found: dict[str, int] = {}
    for name in INDICATOR_WEIGHTS:
        level = levels.get(name)
        if level is None:
            raise IndicatorError(name, "the level is missing")
        # To Python True is 1 and equal to it: only real integers are levels.
        if isinstance(level, bool) or not isinstance(level, int) or level not in LEVELS:
            raise IndicatorError(name, f"the level must be 0, 1, 2 or 3; got {level!r}")
        found[name] = level
    return found


def dominant_axis(state: State) -> str:
    """Give the key of the deepest axis, the first of C, A, P where two are equally deep."""
    return "CAP"[state.index(min(state))]


def difficulty(state: State) -> str:
    """Name the difficulty of an initial deficit as the benchmark's case list does, by its Euclidean norm."""
    norm = math.hypot(*state)
    return next((name for bound, name in _DIFFICULTIES if norm < bound), _HARDEST)
