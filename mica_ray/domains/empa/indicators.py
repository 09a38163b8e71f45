"""The nine indicators of a card's initial deficit (EMPA, arXiv 2603.00552).

The levels come from files (empa/ratings.py) or from a judge model (empa/rater.py).
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
"""Upper limits of the norm of P_0 by difficulty: the mean 32.3 and one deviation (4.5 points) below and above
it, over the 395 published cards. They reproduce the difficulty of all 30 official cases."""

_HARDEST = "极难"


class IndicatorError(ValueError):
    """Invalid levels; `field` names the indicator. Models read the message."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def initial_state(levels: Mapping[str, object]) -> State:
    """Return the initial deficit of nine indicator levels.

        P_0[axis] = sum over the axis' indicators of weight * (-2) * level      EMPA, arXiv 2603.00552

    Other keys of the mapping are ignored.

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
    """Return the nine levels in order.

    Raises:
        IndicatorError: a level is missing or not an integer from 0 to 3.
    """
    found: dict[str, int] = {}
    for name in INDICATOR_WEIGHTS:
        level = levels.get(name)
        if level is None:
            raise IndicatorError(name, "the level is missing")
        # In Python True equals 1, but it is not a level.
        if isinstance(level, bool) or not isinstance(level, int) or level not in LEVELS:
            raise IndicatorError(name, f"the level must be 0, 1, 2 or 3; got {level!r}")
        found[name] = level
    return found


def dominant_axis(state: State) -> str:
    """Return the key of the axis with the largest deficit; on a tie the first of C, A, P."""
    return "CAP"[state.index(min(state))]


def difficulty(state: State) -> str:
    """Return the benchmark's difficulty of an initial deficit, by its Euclidean norm."""
    norm = math.hypot(*state)
    return next((name for bound, name in _DIFFICULTIES if norm < bound), _HARDEST)
