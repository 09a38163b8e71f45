"""When an attempt may begin, and which outcomes count against the endpoint."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

import pytest

from mica_ray.chat.admission import Admission
from mica_ray.chat.circuit_breaker import CallOutcome
from mica_ray.chat.model import ChatError, ErrorKind


@dataclass(frozen=True)
class Rules:
    """Limits without an endpoint."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    breaker_failures: int = 2
    breaker_pause_seconds: float = 0.05
    breaker_longest_pause_seconds: float = 0.2


def soon(seconds: float = 60.0) -> float:
    return time.monotonic() + seconds


async def attempt(admission: Admission, error: BaseException | None = None, tokens: int = 10) -> None:
    with suppress(ChatError, ValueError, asyncio.CancelledError):
        async with admission.attempt(soon(), tokens):
            if error is not None:
                raise error


def chat_error(kind: ErrorKind) -> ChatError:
    return ChatError("no", kind=kind, endpoint="e")


@pytest.mark.parametrize("kind", ["timeout", "infrastructure"])
async def test_endpoint_that_cannot_be_reached_counts_as_failed(kind: ErrorKind) -> None:
    admission = Admission(Rules(), "e")
    await attempt(admission, chat_error(kind))
    assert (admission.breaker.failures_in_a_row, admission.breaker.is_open) == (1, False)
    await attempt(admission, chat_error(kind))
    assert (admission.breaker.failures_in_a_row, admission.breaker.is_open) == (2, True)


@pytest.mark.parametrize("kind", ["content", "refused"])
async def test_endpoint_that_answered_badly_has_answered(kind: ErrorKind) -> None:
    admission = Admission(Rules(), "e")
    await attempt(admission, chat_error("timeout"))
    await attempt(admission, chat_error(kind))
    assert admission.breaker.failures_in_a_row == 0


@pytest.mark.parametrize("error", [ValueError("ours"), asyncio.CancelledError()])
async def test_attempt_that_is_abandoned_leaves_the_count(error: BaseException) -> None:
    admission = Admission(Rules(), "e")
    await attempt(admission, chat_error("timeout"))
    await attempt(admission, error)
    assert admission.breaker.failures_in_a_row == 1
    await attempt(admission)
    assert admission.breaker.failures_in_a_row == 0


async def test_error_of_an_attempt_reaches_the_caller() -> None:
    with pytest.raises(ChatError, match=r"^no$"):
        async with Admission(Rules(), "e").attempt(soon(), 10):
            raise chat_error("content")


async def test_pause_beyond_the_deadline_names_the_endpoint_and_the_failures() -> None:
    admission = Admission(Rules(breaker_pause_seconds=30.0), "judge at localhost")
    for _ in range(2):
        await attempt(admission, chat_error("timeout"))
    with pytest.raises(ChatError) as caught:
        async with admission.attempt(soon(1.0), 10):
            raise AssertionError("admitted")
    assert str(caught.value) == (
        "judge at localhost: paused after 2 consecutive failures, and the next probe is after the deadline. "
        "Check that the server runs and is not overloaded."
    )
    assert (caught.value.kind, caught.value.endpoint) == ("infrastructure", "judge at localhost")


async def test_probe_after_the_pause_closes_the_breaker() -> None:
    admission = Admission(Rules(), "e")
    for _ in range(2):
        await attempt(admission, chat_error("timeout"))
    await attempt(admission, chat_error("timeout"))  # the probe, after the pause
    assert (admission.breaker.is_open, admission.breaker.failures_in_a_row) == (True, 3)
    await attempt(admission)
    assert not admission.breaker.is_open


@pytest.mark.parametrize(
    ("rules", "tokens", "limits"),
    [
        (Rules(requests_per_minute=2.0), 10, "requests_per_minute=2"),
        (Rules(tokens_per_minute=1200.0), 600, "tokens_per_minute=1200"),
        (
            Rules(requests_per_minute=600.0, tokens_per_minute=1200.0),
            600,
            "requests_per_minute=600 or tokens_per_minute=1200",
        ),
    ],
)
async def test_rate_that_allows_a_call_only_after_its_deadline_is_named(
    rules: Rules, tokens: int, limits: str
) -> None:
    # One request of two a minute, or 600 of 1200 tokens: the next call may begin in 30 s.
    admission = Admission(rules, "e")
    await attempt(admission, tokens=tokens)
    with pytest.raises(ChatError) as caught:
        async with admission.attempt(soon(29.0), tokens):
            raise AssertionError("admitted")
    wait = str(caught.value).split(" in ")[1].split(" s,")[0]
    assert 29.5 < float(wait) <= 30.0
    assert str(caught.value) == (
        f"e: the rate limits allow this call in {wait} s, which is after its deadline. "
        f"Raise {limits}, or play fewer dialogues at once."
    )
    assert (caught.value.kind, caught.value.endpoint) == ("timeout", "e")


async def test_call_that_was_refused_books_nothing() -> None:
    # 2000 tokens at 2000 a second: the call of 600 would begin in 1 s. Booked, it would cost 0.3 s.
    admission = Admission(Rules(tokens_per_minute=120_000.0), "e")
    await attempt(admission, tokens=2_000)
    with pytest.raises(ChatError):
        async with admission.attempt(soon(0.5), 600):
            raise AssertionError("admitted")
    admission.correct_tokens(2_000, 2)
    started = time.monotonic()
    await attempt(admission, tokens=2)
    assert time.monotonic() - started < 0.25


async def test_correction_adds_what_was_used_beyond_the_estimate() -> None:
    # 1 token estimated, 1201 used, at 1200 a minute: the next call may begin in 60 s.
    admission = Admission(Rules(tokens_per_minute=1200.0), "e")
    await attempt(admission, tokens=1)
    admission.correct_tokens(1, 1201)
    with pytest.raises(ChatError, match=r"allow this call in (59\.\d*|60) s"):
        async with admission.attempt(soon(30.0), 1):
            raise AssertionError("admitted")


async def test_correction_without_a_token_limit_changes_nothing() -> None:
    admission = Admission(Rules(), "e")
    admission.correct_tokens(1, 10**9)
    await attempt(admission)


async def test_call_waits_for_the_slower_of_both_rates() -> None:
    # Requests every 10 ms; 100 tokens take 100 ms.
    admission = Admission(Rules(requests_per_minute=6000.0, tokens_per_minute=60_000.0), "e")
    await attempt(admission, tokens=100)
    started = time.monotonic()
    await attempt(admission, tokens=1)
    assert time.monotonic() - started >= 0.09


async def test_breaker_that_opens_during_the_wait_for_a_slot_stops_the_call() -> None:
    # Requests every 50 ms. The second call waits for its slot while two earlier attempts fail.
    admission = Admission(Rules(requests_per_minute=1200.0, breaker_pause_seconds=30.0), "e")
    await attempt(admission)
    waiting = asyncio.create_task(attempt_within(admission, 5.0))
    await asyncio.sleep(0)
    for _ in range(2):
        admission.breaker.settle(CallOutcome.FAILED, is_probe=False)
    with pytest.raises(ChatError, match="paused after 2 consecutive failures"):
        await waiting


async def test_caller_cancelled_during_the_wait_for_its_slot_gives_the_probe_back() -> None:
    # The probe waits for the rate limit and is cancelled; the next caller becomes the probe.
    admission = Admission(Rules(requests_per_minute=600.0, breaker_pause_seconds=0.01), "e")
    for _ in range(2):
        await attempt(admission, chat_error("timeout"))
    await asyncio.sleep(0.02)
    probe = asyncio.create_task(attempt_within(admission, 5.0))
    await asyncio.sleep(0.02)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    await attempt_within(admission, 5.0)
    assert not admission.breaker.is_open


async def attempt_within(admission: Admission, seconds: float) -> None:
    async with admission.attempt(soon(seconds), 1):
        pass
