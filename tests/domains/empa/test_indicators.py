"""P_0 from indicator levels, done by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.domains.empa.indicators import (
    INDICATOR_WEIGHTS,
    IndicatorError,
    difficulty,
    dominant_axis,
    initial_state,
)
from tests.domains.empa.card_folder import LEVELS


def test_levels_weigh_as_published() -> None:
    assert initial_state(LEVELS) == (-17.0, -18.0, -13.0)
    # All at 3: C -6 - 6 - 9, A -6 - 12 - 9, P -6 - 12 - 9.
    assert initial_state(dict.fromkeys(INDICATOR_WEIGHTS, 3)) == (-21.0, -27.0, -27.0)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=9, max_size=9).filter(any))
def test_a_higher_level_never_lessens_the_deficit(levels: list[int]) -> None:
    given_levels = dict(zip(INDICATOR_WEIGHTS, levels, strict=True))
    state = initial_state(given_levels)
    for name in INDICATOR_WEIGHTS:
        if given_levels[name] < 3:
            deeper = initial_state({**given_levels, name: given_levels[name] + 1})
            assert sum(deeper) < sum(state)


@pytest.mark.parametrize("level", [4, -1, 1.0, True, "2", None])
def test_no_level_is_refused_by_the_name_of_the_indicator(level: object) -> None:
    with pytest.raises(IndicatorError, match=r"^A\.3: the level"):
        initial_state({**LEVELS, "A.3": level})


def test_person_without_needs_is_refused() -> None:
    with pytest.raises(IndicatorError, match="without any need"):
        initial_state(dict.fromkeys(INDICATOR_WEIGHTS, 0))


def test_dominant_axis_is_the_deepest_and_ties_go_to_the_first() -> None:
    assert [dominant_axis((-1.0, -2.0, -3.0)), dominant_axis((-3.0, -3.0, -1.0))] == ["P", "C"]


def test_difficulty_goes_by_the_norm() -> None:
    # Bounds 27.8, 32.3 and 36.8 points; on one axis the norm is the deficit.
    norms = (27.7, 27.9, 32.2, 32.4, 36.7, 36.9)
    assert [difficulty((-norm, 0.0, 0.0)) for norm in norms] == [
        "较易",
        "中等",
        "中等",
        "困难",
        "困难",
        "极难",
    ]
