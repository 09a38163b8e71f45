"""How long an endpoint asks its callers to wait, in every form that endpoints use."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, cast

_LONGEST_SECONDS: Final = 366 * 86_400
"""A longer wait is a mistake of the endpoint and is ignored."""
_FIRST_TIMESTAMP: Final = 1e9
"""Larger numbers are points in time: seconds since 1970, or milliseconds if 1000 times as large."""

_UNITS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_UNIT_NAMES: Final = {
    "msec": "ms", "msecs": "ms", "millisecond": "ms", "milliseconds": "ms",
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m", "minute": "m",
    "minutes": "m", "hr": "h", "hrs": "h", "hour": "h", "hours": "h", "day": "d", "days": "d",
}  # fmt: skip
_PART = re.compile(
    r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?|\.[0-9]+)\s*([a-z]*)\.?\s*(?:,\s*|\band\s+)?", re.IGNORECASE
)
_CLOCK = re.compile(r"([0-9]{1,3}):([0-5][0-9]):([0-5][0-9](?:\.[0-9]+)?)")
_ISO = re.compile(r"P(?:([0-9]+D))?(?:T(.+))?", re.IGNORECASE)
_IN_SENTENCE = re.compile(
    r"\b(?:again|retry|wait|available in)\b[^.;]{0,30}?\b((?:[0-9]+(?:\.[0-9]+)?\s*(?:ms|milliseconds?|s|"
    r"secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)\b(?:\s*(?:,|and\b)\s*(?=[0-9])|\s*))+|"
    r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+|(?<=after: )[0-9]+)",
    re.IGNORECASE,
)
_IN_LIMITS = re.compile(r"(?<![a-z-])(?:t|reset)=([0-9]+)")
"""Seconds in the header RateLimit, in both forms of its drafts."""
_WAITS: Final = (
    "retry-after-ms", "x-ms-retry-after-ms", "x-retry-after-ms", "retry-after", "x-retry-after",
    "retry-after-seconds", "x-ratelimit-retry-after",
)  # fmt: skip
"""Headers that contain a wait, from the most exact one."""
_BODY_SECONDS: Final = ("retrydelay", "retryafter", "retryafterseconds", "estimatedtime")
"""Fields of error bodies that contain a wait, in lower case without separators."""
_BODY_LEVELS: Final = 6
"""Maximum depth of such a field."""


def asked_seconds(
    headers: Mapping[str, str], payload: object, *, status: int | None, now: datetime | None = None
) -> float | None:
    """Return the wait that a response asks for, in seconds; None if it asks for none.

    Headers come first, from the most exact one, then the body. Negative, unreadable and absurd waits, and
    dates in the past, count as not asked.

    Args:
        headers: of the response.
        payload: its parsed body, or its text.
        status: its status; only a rate limit (429) makes `x-ratelimit-reset-*` a wait.
        now: current time, for dates; None reads the clock.
    """
    now = now or datetime.now(UTC)
    fields = {name.lower(): value for name, value in headers.items()}
    for name in _WAITS:
        unit = "ms" if name.endswith("-ms") else "s"
        if (seconds := _wait(fields.get(name), now, unit)) is not None:
            return seconds
    in_body = list(_body_waits(payload, now))
    if in_body:
        return max(in_body)
    return max(_resets(fields, now), default=None) if status == 429 else None


def _wait(value: object, now: datetime, unit: str = "s") -> float | None:
    """Return the seconds of one value, or None if it is no wait.

    Args:
        value: a number, a duration or a point in time.
        now: current time.
        unit: of a number without one.
    """
    if isinstance(value, Mapping):  # google.protobuf.Duration, written out
        seconds = cast("Mapping[str, object]", value).get("seconds")
        return _wait(seconds, now) if isinstance(seconds, str | int | float) else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip().strip('"')
    seconds = _duration(text, now, unit)
    if seconds is None:
        seconds = _until(text, now)
    if seconds is None and "," in text:  # A header that was sent twice.
        return max((each for part in text.split(",") if (each := _wait(part, now, unit))), default=None)
    is_wait = seconds is not None and math.isfinite(seconds) and 0 < seconds <= _LONGEST_SECONDS
    return seconds if is_wait else None


def _duration(text: str, now: datetime, unit: str) -> float | None:
    """Return the seconds of "20", "20s", "1m30s", "1 minute, 30 seconds", "500 ms", "PT20S" or "00:00:20"."""
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if number >= _FIRST_TIMESTAMP:
            number /= 1000 if number >= 1000 * _FIRST_TIMESTAMP else 1
            return number - now.timestamp()
        return number * _UNITS[unit]
    if clock := _CLOCK.fullmatch(text):
        return 3600 * float(clock[1]) + 60 * float(clock[2]) + float(clock[3])
    iso = _ISO.fullmatch(text)
    rest = "".join(filter(None, iso.groups())) if iso else text
    seconds = 0.0
    while rest:
        part = _PART.match(rest)
        if part is None:
            return None
        name = part[2].lower()
        factor = _UNITS.get(_UNIT_NAMES.get(name, name))
        if factor is None:
            return None
        seconds += float(part[1]) * factor
        rest = rest[part.end() :]
    return seconds


def _until(text: str, now: datetime) -> float | None:
    """Return the seconds until a date, as HTTP or ISO 8601 write it."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return (moment - now).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None


def _resets(fields: Mapping[str, str], now: datetime) -> Iterator[float]:
    """Yield the waits until exhausted limits are reset; limits with a remainder are not the reason."""
    for name, value in fields.items():
        if name == "ratelimit" and re.search(r"\b(?:r|remaining)=0\b", value):
            yield from (float(found) for found in _IN_LIMITS.findall(value))
        if "ratelimit" not in name.replace("rate-limit", "ratelimit") or "reset" not in name:
            continue
        remaining = fields.get(name.replace("reset", "remaining"), "0").strip()
        if remaining in ("", "0") and (seconds := _wait(value, now)) is not None:
            yield seconds


def _body_waits(payload: object, now: datetime, level: int = 0) -> Iterator[float]:
    """Yield the waits that an error body names, in fields or in its sentences."""
    if level > _BODY_LEVELS:
        return
    if isinstance(payload, str):
        for match in _IN_SENTENCE.finditer(payload[:2000]):
            if (seconds := _wait(match[1], now)) is not None:
                yield seconds
    elif isinstance(payload, Mapping):
        for name, value in cast("Mapping[str, object]", payload).items():
            plain = re.sub(r"[^a-z]", "", name.lower())
            if plain in _BODY_SECONDS or plain == "retryafterms":
                seconds = _wait(value, now, "ms" if plain == "retryafterms" else "s")
                if seconds is not None:
                    yield seconds
            else:
                yield from _body_waits(value, now, level + 1)
    elif isinstance(payload, list):
        for item in cast("list[object]", payload)[:20]:
            yield from _body_waits(item, now, level + 1)
