"""A failing endpoint is paused, probed once and used again; no caller waits beyond its deadline."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest

from mica_ray.chat.circuit_breaker import BreakerOpenError, CallOutcome, CircuitBreaker


@dataclass
class HandClock:
    """A clock that the test advances by hand."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


async def attempt(breaker: CircuitBreaker, outcome: CallOutcome, until: float = 1e9) -> bool:
    is_probe = await breaker.admit(until)
    breaker.settle(outcome, is_probe=is_probe)
    return is_probe


async def opened(clock: HandClock) -> CircuitBreaker:
    """Three failures, then 10 seconds of pause, at most 25."""
    breaker = CircuitBreaker(3, 10.0, 25.0, clock=clock)
    for _ in range(3):
        assert not breaker.is_open
        await attempt(breaker, CallOutcome.FAILED)
    assert breaker.is_open
    return breaker


async def test_answer_between_failures_keeps_it_closed() -> None:
    breaker = CircuitBreaker(2, 10.0, 25.0, clock=HandClock())
    failed, answered, abandoned = CallOutcome.FAILED, CallOutcome.ANSWERED, CallOutcome.ABANDONED
    for outcome in (failed, answered, failed, abandoned, answered):
        await attempt(breaker, outcome)
    assert not breaker.is_open


async def test_failures_are_counted_since_the_last_answer() -> None:
    clock = HandClock()
    breaker = CircuitBreaker(3, 10.0, 25.0, clock=clock)
    counts: list[tuple[int, bool]] = []
    for outcome in (CallOutcome.FAILED, CallOutcome.FAILED, CallOutcome.ABANDONED, CallOutcome.FAILED):
        await attempt(breaker, outcome)
        counts.append((breaker.failures_in_a_row, breaker.is_open))
    assert counts == [(1, False), (2, False), (2, False), (3, True)]
    breaker.settle(CallOutcome.FAILED, is_probe=False)  # one that was in flight
    clock.now += 10.0
    await attempt(breaker, CallOutcome.FAILED)  # the probe
    assert (breaker.failures_in_a_row, breaker.num_openings) == (5, 1)
    clock.now += 20.0
    await attempt(breaker, CallOutcome.ANSWERED)
    assert (breaker.failures_in_a_row, breaker.is_open) == (0, False)
    for _ in range(3):
        assert not await attempt(breaker, CallOutcome.FAILED)
    assert breaker.num_openings == 2
    # The second outage begins with the first pause again.
    with pytest.raises(BreakerOpenError):
        await breaker.admit(until=clock.now + 9.9)
    clock.now += 10.0
    assert await breaker.admit(until=clock.now)


async def test_deadline_at_the_end_of_the_pause_is_waited_for() -> None:
    clock = HandClock()
    breaker = await opened(clock)
    waiting = asyncio.create_task(breaker.admit(until=clock.now + 10.0))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    breaker.settle(CallOutcome.ANSWERED, is_probe=False)
    assert await waiting is False


async def test_deadline_that_has_passed_is_refused_during_a_probe() -> None:
    clock = HandClock()
    breaker = await opened(clock)
    clock.now += 10.0
    assert await breaker.admit(1e9)
    with pytest.raises(BreakerOpenError):
        await breaker.admit(until=clock.now)


async def test_abandoned_probe_changes_neither_count_nor_pause() -> None:
    clock = HandClock()
    breaker = await opened(clock)
    clock.now += 10.0
    assert await attempt(breaker, CallOutcome.ABANDONED)
    assert (breaker.is_open, breaker.failures_in_a_row, breaker.num_openings) == (True, 3, 1)
    assert await attempt(breaker, CallOutcome.ANSWERED)
    assert not breaker.is_open


async def test_new_breaker_is_closed_and_has_counted_nothing() -> None:
    breaker = CircuitBreaker(1, 10.0, 25.0)
    assert (breaker.is_open, breaker.failures_in_a_row, breaker.num_openings) == (False, 0, 0)
    assert await breaker.admit(until=0.0) is False
    await attempt(breaker, CallOutcome.FAILED)
    assert breaker.is_open


async def test_deadline_before_the_probe_is_refused_at_once() -> None:
    clock = HandClock()
    breaker = await opened(clock)
    with pytest.raises(BreakerOpenError):
        await breaker.admit(until=clock.now + 9.9)


async def test_failed_probe_doubles_the_pause_up_to_its_bound() -> None:
    clock = HandClock()
    breaker = await opened(clock)
    # 10, then 20, then 25 and never more.
    for pause in (10.0, 20.0, 25.0, 25.0):
        clock.now += pause - 0.1
        with pytest.raises(BreakerOpenError):
            await breaker.admit(until=clock.now)
        clock.now += 0.1
        assert await attempt(breaker, CallOutcome.FAILED)
    assert breaker.num_openings == 1


async def test_answered_probe_closes_it_for_everybody() -> None:
    clock = HandClock()
    breaker = await opened(clock)
    clock.now += 10.0
    assert await breaker.admit(1e9)
    waiting = [asyncio.create_task(breaker.admit(1e9)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    breaker.settle(CallOutcome.ANSWERED, is_probe=True)
    assert await asyncio.gather(*waiting) == [False, False, False]


async def test_abandoned_probe_hands_over_to_another_caller() -> None:
    clock = HandClock()
    breaker = await opened(clock)
    clock.now += 10.0
    assert await breaker.admit(1e9)
    other = asyncio.create_task(breaker.admit(1e9))
    await asyncio.sleep(0)
    breaker.settle(CallOutcome.ABANDONED, is_probe=True)
    assert await other


async def test_stragglers_may_close_it_and_never_lengthen_the_pause() -> None:
    clock = HandClock()
    breaker = await opened(clock)
    clock.now += 9.0
    breaker.settle(CallOutcome.FAILED, is_probe=False)
    clock.now += 1.0
    assert await breaker.admit(1e9)
    breaker.settle(CallOutcome.ANSWERED, is_probe=False)
    assert not breaker.is_open


async def test_waiting_call_probes_when_the_pause_is_over() -> None:
    breaker = CircuitBreaker(1, 0.05, 1.0)
    await attempt(breaker, CallOutcome.FAILED)
    started = time.monotonic()
    first, second = (asyncio.create_task(breaker.admit(started + 60)) for _ in range(2))
    done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    assert time.monotonic() - started >= 0.05
    assert [task.result() for task in done] == [True]
    breaker.settle(CallOutcome.ANSWERED, is_probe=True)
    assert sorted([await first, await second]) == [False, True]


async def test_nobody_waits_for_a_probe_beyond_the_deadline() -> None:
    breaker = CircuitBreaker(1, 0.01, 1.0)
    await attempt(breaker, CallOutcome.FAILED)
    assert await breaker.admit(time.monotonic() + 60)
    with pytest.raises(BreakerOpenError):
        await breaker.admit(time.monotonic() + 0.05)
