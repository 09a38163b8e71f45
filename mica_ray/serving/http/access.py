"""Who may send requests: checks the API key of a request and limits the rate of each key."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.api_keys import KeyFile

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
    """Identifies callers by their key and limits each key's rate.

    Args:
        keys: the valid keys; None admits everyone as `ANYONE`, without a limit.
        requests_per_minute: of one key. The requests of a minute may arrive at once.
        clock: monotonic, seconds.
    """

    def __init__(
        self,
        keys: KeyFile | None,
        *,
        requests_per_minute: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._per_minute = requests_per_minute
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def admit(self, authorization: str) -> str:
        """Return the name of the caller's key and count the request.

        Args:
            authorization: the header, `Bearer KEY`; empty if the request has none.

        Raises:
            ApiError: 401 without a valid key, 429 if the key exceeds its rate.
        """
        if self._keys is None:
            return ANYONE
        if not authorization.lower().startswith(_SCHEME):
            raise ApiError(
                401, "The request has no API key. Send Authorization: Bearer KEY.", code="missing_api_key"
            )
        owner = self._keys.owner(authorization[len(_SCHEME) :].strip())
        if owner is None:
            raise ApiError(
                401,
                "This API key is wrong or revoked. Ask the operator of the service for a new one.",
                code="invalid_api_key",
            )
        self._take(owner)
        return owner

    def _take(self, owner: str) -> None:
        now = self._clock()
        bucket = self._buckets.setdefault(owner, _Bucket(self._per_minute, now))
        rate = self._per_minute / 60
        bucket.left = min(self._per_minute, bucket.left + (now - bucket.refilled_at) * rate)
        bucket.refilled_at = now
        if bucket.left < 1:
            seconds = math.ceil((1 - bucket.left) / rate)
            raise ApiError(
                429,
                f"This key sent more than {self._per_minute} requests a minute. Try again in {seconds} s.",
                type="rate_limit_error",
                code="rate_limit_exceeded",
                retry_after=seconds,
            )
        bucket.left -= 1
