"""Who may send requests: checks the key of a request, its scope, and the limits of the key."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.api_keys import KeyFile, KeyRecord, KeyScope
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.http.token_budget import TokenBudget
from mica_ray.serving.operations.request_record import RequestRecord, current_record

ANYONE = ""
"""Name of every caller when the service has no keys."""
_SCHEME = "bearer "


@dataclass(slots=True)
class _Bucket:
    """A token bucket: the requests a key may send at once, refilled at the allowed rate."""

    left: float
    refilled_at: float
    """Seconds on the access control's clock."""


class AccessControl:
    """Identifies callers by their key and keeps each key within its limits.

    A key occupies a place from its admission to the end of the response. Its tokens count when the response
    ends, so the requests in flight may exceed a day's limit, each by the tokens of one reply.

    Args:
        keys: the valid keys; None admits everyone as `ANYONE`, without a limit.
        settings: the limits of each key; its record in the file may have others.
        budget: the tokens of each key and day.
        clock: monotonic, seconds.
    """

    def __init__(
        self,
        keys: KeyFile | None,
        settings: ServeSettings,
        *,
        budget: TokenBudget | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._settings = settings
        self._budget = budget or TokenBudget()
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._in_flight: dict[str, int] = {}

    def admit(self, authorization: str, scope: KeyScope | None = "chat") -> str:
        """Return the name of the caller's key, count the request, and take a place until it ends.

        Args:
            authorization: the header, `Bearer KEY`; empty if the request has none.
            scope: what the request needs; None: any valid key.

        Raises:
            ApiError: 401 without a valid key, 403 if the key is for something else, 429 if it is at a limit.
        """
        if self._keys is None:
            return ANYONE
        key = self._key(self._keys, authorization)
        current_record().key = key.name
        if scope is not None and scope not in key.scopes:
            raise ApiError(
                403,
                f"This key is not valid for {scope}. Use a key that was created with --scope {scope}.",
                type="permission_error",
                code="insufficient_scope",
            )
        self._take(key.name)
        if scope in ("chat", "support"):
            self._check_tokens(key)
            self._occupy(key.name, 1, self._max_in_flight(key))
            current_record().at_end(self._count_tokens)
        return key.name

    def occupy_for_choices(self, owner: str, num_choices: int) -> None:
        """Take the places of a request's choices: each is a reply of its own, and the first has its place.

        Raises:
            ApiError: 400, the key never has so many places; 429, it does not have them now.
        """
        if self._keys is None or num_choices == 1:
            return
        limit = self._max_in_flight(self._record(owner))
        if num_choices > limit:
            problem = f"n is {num_choices}, and this key may have {limit} replies in flight. Lower n."
            raise ApiError(400, problem, param="n")
        self._occupy(owner, num_choices - 1, limit)

    def max_sessions(self, owner: str) -> int:
        """Return how many sessions a key may have at the same time."""
        if self._keys is None:
            return self._settings.max_sessions
        found = self._record(owner)
        limit = None if found is None else found.max_sessions
        return self._settings.max_sessions_per_key if limit is None else limit

    def save(self) -> None:
        """Write the tokens of the day to disk, if they are kept there."""
        self._budget.save()

    def _key(self, keys: KeyFile, authorization: str) -> KeyRecord:
        if not authorization.lower().startswith(_SCHEME):
            raise ApiError(
                401, "The request has no API key. Send Authorization: Bearer KEY.", code="missing_api_key"
            )
        key = keys.find(authorization[len(_SCHEME) :].strip())
        if key is None:
            raise ApiError(
                401,
                "This API key is wrong, revoked or expired. Ask the operator of the service for a new one.",
                code="invalid_api_key",
            )
        return key

    def _record(self, owner: str) -> KeyRecord | None:
        assert self._keys is not None
        return next((key for key in self._keys.records() if key.name == owner), None)

    def _max_in_flight(self, key: KeyRecord | None) -> int:
        limit = None if key is None else key.max_in_flight
        return self._settings.max_in_flight_per_key if limit is None else limit

    def _take(self, owner: str) -> None:
        now, per_minute = self._clock(), self._settings.requests_per_minute
        bucket = self._buckets.setdefault(owner, _Bucket(per_minute, now))
        rate = per_minute / 60
        bucket.left = min(per_minute, bucket.left + (now - bucket.refilled_at) * rate)
        bucket.refilled_at = now
        is_allowed = bucket.left >= 1
        bucket.left -= is_allowed
        _tell("requests", per_minute, math.floor(bucket.left), (per_minute - bucket.left) / rate)
        if not is_allowed:
            seconds = math.ceil((1 - bucket.left) / rate)
            raise _limited(
                f"This key sent more than {per_minute} requests a minute. Try again in {seconds} s.",
                code="rate_limit_exceeded",
                seconds=seconds,
            )

    def _check_tokens(self, key: KeyRecord) -> None:
        limit = self._settings.daily_tokens_per_key if key.daily_tokens is None else key.daily_tokens
        if limit is None:
            return
        left, seconds = limit - self._budget.used(key.name), self._budget.seconds_left
        _tell("tokens", limit, max(0, left), seconds)
        if left > 0:
            return
        raise _limited(
            f"This key has used its {limit} tokens of the day. Try again in {seconds} s.",
            code="daily_tokens_exceeded",
            seconds=seconds,
        )

    def _occupy(self, owner: str, num_places: int, limit: int) -> None:
        """Take places until the request ends."""
        taken = self._in_flight.get(owner, 0)
        if taken + num_places > limit:
            raise _limited(
                f"This key has {taken} replies in flight, its limit is {limit}. Wait until one of them ends.",
                code="too_many_in_flight",
                seconds=self._settings.retry_after_seconds,
            )
        self._in_flight[owner] = taken + num_places

        def release(record: RequestRecord) -> None:
            self._in_flight[owner] -= num_places

        current_record().at_end(release)

    def _count_tokens(self, record: RequestRecord) -> None:
        self._budget.add(record.key, record.prompt_tokens + record.completion_tokens)


def _tell(unit: str, limit: int, left: int, seconds: float) -> None:
    """Add a limit to the headers of the response, under OpenAI's names.

    Args:
        unit: "requests" (of a minute) or "tokens" (of a day).
        limit: the limit of the key.
        left: what is left of it, this request included.
        seconds: until the whole limit is free again.
    """
    current_record().limits.update(
        {
            f"x-ratelimit-limit-{unit}": str(limit),
            f"x-ratelimit-remaining-{unit}": str(left),
            f"x-ratelimit-reset-{unit}": f"{seconds:.3f}".rstrip("0").rstrip(".") + "s",
        }
    )


def _limited(message: str, *, code: str, seconds: int) -> ApiError:
    return ApiError(429, message, type="rate_limit_error", code=code, retry_after=seconds)
