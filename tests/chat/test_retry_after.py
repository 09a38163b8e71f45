"""Waits that endpoints ask for, in every form, and how they bound the attempts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from mica_ray.chat.openai_api import OpenAIChat
from mica_ray.chat.retry_after import asked_seconds
from mica_ray.types import Sampling
from tests.chat.local_endpoint import Answer, LocalEndpoint
from tests.chat.test_openai_api import MESSAGES, endpoint, failure

NOW = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)
DETAIL = "type.googleapis.com/google.rpc.RetryInfo"


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


HEADERS = [
    ("retry-after", "20", 20.0), ("retry-after", " 20 ", 20.0), ("Retry-After", "0.5", 0.5),
    ("retry-after", "20s", 20.0), ("retry-after", "20 s", 20.0), ("retry-after", "1m30s", 90.0),
    ("retry-after", "500ms", 0.5), ("retry-after", "2 minutes", 120.0), ("retry-after", "1h", 3600.0),
    ("retry-after", "1 Hour 2 Min", 3720.0), ("retry-after", "PT1M5S", 65.0), ("retry-after", "20, 20", 20.0),
    ("retry-after", '"20"', 20.0), ("retry-after", "1e1", 10.0),
    ("retry-after", "Sat, 01 Mar 2025 12:00:20 GMT", 20.0),
    ("retry-after", "Saturday, 01-Mar-25 12:00:20 GMT", 20.0),
    ("retry-after", "2025-03-01T12:00:20", 20.0),  # A date without a zone is in UTC.
    ("retry-after", "2025-03-01T12:00:20Z", 20.0), ("retry-after", "2025-03-01T13:00:20+01:00", 20.0),
    ("retry-after", str(int(later(20).timestamp())), 20.0),
    ("retry-after", str(int(1000 * later(20).timestamp())), 20.0),
    ("retry-after", "20 sec.", 20.0), ("retry-after", "1 hr", 3600.0), ("retry-after", "00:01:20", 80.0),
    ("retry-after", "1 minute, 30 seconds", 90.0), ("retry-after", "1 minute and 30 seconds", 90.0),
    ("retry-after", "P0DT0H1M20S", 80.0), ("retry-after", "P1D", 86_400.0), ("retry-after", "2e1s", 20.0),
    ("x-retry-after", "20", 20.0), ("x-retry-after-ms", "1500", 1.5), ("retry-after-seconds", "20", 20.0),
    ("ratelimit", '"default";r=0;t=20', 20.0), ("RateLimit", "limit=9, remaining=0, reset=20", 20.0),
    ("x-rate-limit-reset", "20", 20.0),
    ("retry-after-ms", "1500", 1.5), ("x-ms-retry-after-ms", "1500", 1.5), ("retry-after-ms", "2s", 2.0),
    ("x-ratelimit-reset-requests", "6m0s", 360.0), ("x-ratelimit-reset-tokens", "20ms", 0.02),
    ("x-ratelimit-reset", "20", 20.0), ("anthropic-ratelimit-requests-reset", "2025-03-01T12:00:20Z", 20.0),
    ("x-ratelimit-reset", str(int(1000 * later(20).timestamp())), 20.0),
]  # fmt: skip
NONE = [
    "", "soon", "-5", "-0.5s", "0", "nan", "inf", "-inf", "1e300", "99999999999999999999999999", "20 parsecs",
    "20x", "s", "1m30", "Sat, 01 Mar 2025 11:59:00 GMT", "Sat, 99 Mar 2025 12:00:20 GMT",
    "Sat, 01 Mar 2095 12:00:20 GMT", "1700000000", "٢٠s", "None", "{}", "\x00", "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "seconds"), HEADERS)
def test_wait_is_read_from_a_header(name: str, value: str, seconds: float) -> None:
    assert asked_seconds({name: value}, {}, status=429, now=NOW) == pytest.approx(seconds)


@pytest.mark.parametrize("value", NONE)
@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens"])
def test_unreadable_past_and_absurd_waits_are_ignored(name: str, value: str) -> None:
    assert asked_seconds({name: value}, {}, status=429, now=NOW) is None


def test_longest_wait_is_a_leap_year() -> None:
    days = 86_400
    assert asked_seconds({"retry-after": str(366 * days)}, {}, status=429, now=NOW) == 366 * days
    assert asked_seconds({"retry-after": str(366 * days + 1)}, {}, status=429, now=NOW) is None


BODIES = [
    ([{"error": {"details": [{"@type": DETAIL, "retryDelay": "17.5s"}]}}], 17.5),
    ({"error": {"details": [{"@type": DETAIL, "retryDelay": {"seconds": 17}}]}}, 17.0),
    ({"error": {"metadata": {"headers": {"Retry-After": "17"}}}}, 17.0),
    ({"retry_after": 17}, 17.0),
    ({"error": {"retry_after": "2025-03-01T12:00:17Z"}}, 17.0),
    ([[[[[[{"retry_after": 17}]]]]]], 17.0),
    ([[[[[[[{"retry_after": 17}]]]]]]], None),  # Deeper than any endpoint writes it.
    ({"a": {"a": {"a": {"a": {"a": {"a": {"retry_after": 17}}}}}}}, 17.0),
    ({"a": {"a": {"a": {"a": {"a": {"a": {"a": {"retry_after": 17}}}}}}}}, None),
    ({"retry_after": {"seconds": [17]}}, None),
    ({"retry_after_ms": 1700}, 1.7),
    ({"error": "loading", "estimated_time": 17.0}, 17.0),
    ({"error": {"message": "Limit reached. Please try again in 1.7s. See the page."}}, 1.7),
    ({"error": {"message": "Limit reached. Please try again in 170ms."}}, 0.17),
    ({"error": {"message": "Retry after 17 seconds."}}, 17.0),
    ("Please wait 2 minutes and try again", 120.0),
    ({"error": {"message": "Try again after 1 minute and 5 seconds"}}, 65.0),
    ({"error": "Retry after: 17"}, 17.0),
    ({"detail": "Request was throttled. Expected available in 17 seconds."}, 17.0),
    ({"error": {"message": "Please retry later"}}, None),
    ({"retry_after": True}, None),
    ({"retry_after": None}, None),
    ({"error": {"message": "We served 20 users"}}, None),
]


@pytest.mark.parametrize(("body", "seconds"), BODIES, ids=lambda value: str(value)[:50])
def test_wait_is_read_from_a_body(body: object, seconds: float | None) -> None:
    found = asked_seconds({}, body, status=503, now=NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_reset_of_a_limit_that_is_not_exhausted_is_no_wait() -> None:
    limits = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-remaining-tokens": "5",
        "x-ratelimit-reset-tokens": "60s",
    }
    assert asked_seconds(limits, {}, status=429, now=NOW) == 2.0
    assert asked_seconds(limits, {}, status=503, now=NOW) is None
    assert asked_seconds(limits | {"retry-after": "1"}, {}, status=429, now=NOW) == 1.0


def in_a_second() -> str:
    # HTTP dates have whole seconds: between 0.5 and 1.5 s from now.
    return format_datetime(datetime.now(UTC) + timedelta(seconds=1.5), usegmt=True)


@pytest.mark.parametrize("form", ["date", "ms", "unit", "body", "inside 200"])
async def test_attempts_are_not_burnt_before_the_asked_wait(form: str) -> None:
    headers = {"date": in_a_second(), "ms": "500ms", "unit": "0.5 s"}
    name = "retry-after"
    error = {"code": 429, "message": "busy", "details": [{"@type": DETAIL, "retryDelay": "0.5s"}]}
    if form in headers:
        busy = Answer(status=429, headers={name: headers[form]}, body="busy")
    else:
        busy = Answer(status=429 if form == "body" else 200, body=json.dumps({"error": error}))
    async with LocalEndpoint(busy, busy, Answer("hi")) as server:
        chat = OpenAIChat(endpoint(server, longest_pause_seconds=5), "key")
        reply = await chat.chat(MESSAGES, Sampling())
    assert reply.attempts == 3
    # Twice 0.5 s; a date is passed after its second.
    assert reply.seconds >= (0.45 if form == "date" else 0.95)


@pytest.mark.parametrize(
    ("value", "shown"), [("1h", "3600 s"), ("21", "21 s"), (format_datetime(later(3e9)), "status 429")]
)
async def test_wait_beyond_the_deadline_is_named_and_an_absurd_one_is_not_kept(
    value: str, shown: str
) -> None:
    busy = Answer(status=429, headers={"retry-after": value}, body="busy")
    async with LocalEndpoint(busy) as server:
        error = await failure(server)
    assert error.kind == "infrastructure" and shown in str(error)
    assert len(server.requests) == (3 if shown == "status 429" else 1)


async def test_wait_within_the_deadline_is_kept() -> None:
    busy = Answer(status=503, headers={"retry-after": "19"}, body="busy")
    async with LocalEndpoint(busy, Answer("hi")) as server:
        reply = await OpenAIChat(endpoint(server), "key").chat(MESSAGES, Sampling())
    assert reply.attempts == 2  # The pause itself is limited by longest_pause_seconds.
