"""The rate limit holds for any pattern of calls."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.chat.pace import Pace
from tests.chat.test_circuit_breaker import HandClock


def test_calls_are_spaced_evenly_and_idle_time_is_not_saved_up() -> None:
    clock = HandClock()
    pace = Pace(120, clock=clock)
    # 120 a minute: one every half second.
    assert [pace.book(1) for _ in range(3)] == [0.0, 0.5, 1.0]
    clock.now += 60
    assert [pace.book(1) for _ in range(2)] == [0.0, 0.5]


def test_correction_moves_the_next_call() -> None:
    pace = Pace(6000, clock=HandClock())
    pace.book(500)  # 100 tokens a second: 5 s
    pace.correct(-300)  # it took 200
    assert pace.seconds_until_free() == pytest.approx(2.0)
    pace.correct(+100)
    assert pace.book(1) == pytest.approx(3.0)


def test_wait_is_never_negative_and_booking_never_pays_back() -> None:
    clock = HandClock()
    pace = Pace(60, clock=clock)
    assert pace.seconds_until_free() == 0.0
    assert pace.book(2.5) == 0.0
    assert pace.seconds_until_free() == 2.5
    clock.now += 2.5
    assert pace.seconds_until_free() == 0.0
    clock.now += 1
    assert pace.seconds_until_free() == 0.0
    assert pace.book(1) == 0.0
    pace.correct(-10)
    assert pace.seconds_until_free() == 0.0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 5), min_size=1, max_size=60))
def test_no_minute_holds_more_than_its_units_and_one(pauses: list[float]) -> None:
    clock, starts = HandClock(), []
    pace = Pace(20, clock=clock)
    for pause in pauses:
        clock.now += pause
        starts.append(clock.now + pace.book(1))
    for start in starts:
        # A tolerance for sums of sixtieths.
        assert sum(start <= other < start + 60 - 1e-6 for other in starts) <= 21
