"""Access control without HTTP and with a clock of its own: errors in full, arithmetic of the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mica_ray.serving.http.access import ANYONE, AccessControl
from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.api_keys import KeyFile, KeyTerms
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.http.token_budget import TokenBudget
from mica_ray.serving.operations.request_record import RequestRecord, recording

NOON = 43_200.0
"""Of the first day, seconds: half a day is left."""


class Service:
    """An access control, its clock, and one key with the header of its requests."""

    def __init__(self, folder: Path, settings: ServeSettings, terms: KeyTerms | None = None) -> None:
        keys = KeyFile(folder / "keys.json")
        self.header = f"Bearer {keys.add('ada', terms or KeyTerms())}"
        self.now = 1000.0
        self.budget = TokenBudget(clock=lambda: NOON)
        self.access = AccessControl(keys, settings, budget=self.budget, clock=lambda: self.now)


@pytest.fixture
def record() -> Iterator[RequestRecord]:
    record = RequestRecord()
    with recording(record):
        yield record


def refusal(call: Callable[[], object]) -> tuple[object, ...]:
    """Return everything of the error that a call raises."""
    with pytest.raises(ApiError) as caught:
        call()
    error = caught.value
    return error.status, error.type, error.code, error.param, error.retry_after, str(error)


def test_errors_about_the_key_are_complete(tmp_path: Path, record: RequestRecord) -> None:
    service = Service(tmp_path, ServeSettings())
    kind = "invalid_request_error"
    missing = "The request has no API key. Send Authorization: Bearer KEY."
    for header in ("", "Basic x", "bearer"):
        assert refusal(lambda header=header: service.access.admit(header)) == (
            *(401, kind, "missing_api_key", None, None, missing),
        )
    wrong = "This API key is wrong, revoked or expired. Ask the operator of the service for a new one."
    assert refusal(lambda: service.access.admit("Bearer mica-x")) == (
        *(401, kind, "invalid_api_key", None, None, wrong),
    )
    scope = "This key is not valid for metrics. Use a key that was created with --scope metrics."
    assert refusal(lambda: service.access.admit(service.header, "metrics")) == (
        *(403, "permission_error", "insufficient_scope", None, None, scope),
    )
    assert record.key == "ada"
    # A scheme is the same in capitals, and white space around the key does not count.
    assert service.access.admit(service.header.replace("Bearer ", "BEARER   ") + " ") == "ada"


def test_rate_is_a_bucket_that_fills_steadily(tmp_path: Path, record: RequestRecord) -> None:
    # 3 a minute: one every 20 s.
    service = Service(tmp_path, ServeSettings(requests_per_minute=3))

    def told() -> tuple[str, ...]:
        return tuple(
            record.limits[f"x-ratelimit-{name}-requests"] for name in ("limit", "remaining", "reset")
        )

    for expected in (("3", "2", "20s"), ("3", "1", "40s"), ("3", "0", "60s")):
        service.access.admit(service.header, None)
        assert told() == expected
    service.now += 5.5
    assert refusal(lambda: service.access.admit(service.header, None)) == (
        *(429, "rate_limit_error", "rate_limit_exceeded", None, 15),
        "This key sent more than 3 requests a minute. Try again in 15 s.",
    )
    assert told() == ("3", "0", "54.5s")
    service.now += 14.5  # 20 s after the bucket was empty.
    service.access.admit(service.header, None)
    service.now += 10_000  # It does not fill above its limit.
    service.access.admit(service.header, None)
    assert told() == ("3", "2", "20s")


def test_tokens_of_the_day_are_told_and_refused_in_full(tmp_path: Path, record: RequestRecord) -> None:
    service = Service(tmp_path, ServeSettings(daily_tokens_per_key=50), KeyTerms(daily_tokens=20))
    service.budget.add("ada", 19)
    service.access.admit(service.header)
    names = ("limit", "remaining", "reset")
    assert [record.limits[f"x-ratelimit-{name}-tokens"] for name in names] == ["20", "1", "43200s"]
    record.prompt_tokens, record.completion_tokens = 4, 3
    record.end()
    assert service.budget.used("ada") == 26
    assert refusal(lambda: service.access.admit(service.header, "support")) == (
        *(429, "rate_limit_error", "daily_tokens_exceeded", None, 43_200),
        "This key has used its 20 tokens of the day. Try again in 43200 s.",
    )
    assert record.limits["x-ratelimit-remaining-tokens"] == "0"
    service.access.admit(service.header, None)  # Other requests need no tokens.


def test_places_are_taken_by_choices_and_freed_at_the_end(tmp_path: Path) -> None:
    settings = ServeSettings(max_in_flight_per_key=64, retry_after_seconds=9)
    service = Service(tmp_path, settings, KeyTerms(max_in_flight=3))
    access = service.access
    first = RequestRecord()
    with recording(first):
        access.admit(service.header)
        access.occupy_for_choices("ada", 1)
        assert refusal(lambda: access.occupy_for_choices("ada", 4)) == (
            *(400, "invalid_request_error", None, "n", None),
            "n is 4, and this key may have 3 replies in flight. Lower n.",
        )
        access.occupy_for_choices("ada", 3)
        with recording(RequestRecord()):
            assert refusal(lambda: access.admit(service.header)) == (
                *(429, "rate_limit_error", "too_many_in_flight", None, 9),
                "This key has 3 replies in flight, its limit is 3. Wait until one of them ends.",
            )
            # Metrics and the list of models take no place.
            assert access.admit(service.header, None) == "ada"
    with recording(RequestRecord()):
        access.admit(service.header)
        access.occupy_for_choices("ada", 3)


def test_limits_of_the_service_hold_for_keys_without_their_own(tmp_path: Path, record: RequestRecord) -> None:
    settings = ServeSettings(max_in_flight_per_key=2, max_sessions_per_key=5, max_sessions=7)
    service = Service(tmp_path, settings)
    assert service.access.max_sessions("ada") == service.access.max_sessions("unknown") == 5
    service.access.admit(service.header)
    assert refusal(lambda: service.access.occupy_for_choices("unknown", 3))[-1] == (
        "n is 3, and this key may have 2 replies in flight. Lower n."
    )
    own = Service(tmp_path / "own", settings, KeyTerms(max_sessions=6, max_in_flight=4))
    assert own.access.max_sessions("ada") == 6


def test_without_keys_everyone_is_admitted_without_limits(record: RequestRecord) -> None:
    access = AccessControl(None, ServeSettings(max_sessions=7, max_sessions_per_key=5, requests_per_minute=1))
    assert [access.admit("") for _ in range(3)] == [ANYONE] * 3
    access.occupy_for_choices(ANYONE, 10_000)
    assert access.max_sessions(ANYONE) == 7
    assert (record.limits, record.key) == ({}, "")
