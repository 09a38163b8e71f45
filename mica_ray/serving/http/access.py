"""Who calls: the key of a request, and how many requests it may still send this minute."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.api_keys import KeyFile

ANYONE = ""
"""The caller where the service has no keys."""
_SCHEME = "bearer "


@dataclass(slots=True)
class _Bucket:
    """Requests that a key may send at once; it fills at the allowed rate."""

    left: float
    seen: float


class AccessControl:
    """Tells callers apart and holds each to its rate.

    Args:
        keys: good keys; None lets anyone in, as `ANYONE` and uncounted.
        requests_per_minute: of one key. A minute's requests may come at once.
        clock: seconds, monotonic.
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
        """Give the name of the caller's key, and count the request.

        Args:
            authorization: the header, `Bearer KEY`; empty where there is none.

        Raises:
            ApiError: 401 without a good key, 429 when the key has sent too much.
        """
        if self._keys is None:
            return ANYONE
        if not authorization.lower().startswith(_SCHEME):
            raise ApiError(401, "no API key; send Authorization: Bearer KEY", code="missing_api_key")
        owner = self._keys.owner(authorization[len(_SCHEME) :].strip())
        if owner is None:
            raise ApiError(401, "this API key is wrong or revoked", code="invalid_api_key")
        self._take(owner)
        return owner

    def _take(self, owner: str) -> None:
        now = self._clock()
        bucket = self._buckets.setdefault(owner, _Bucket(self._per_minute, now))
        rate = self._per_minute / 60
        bucket.left = min(self._per_minute, bucket.left + (now - bucket.seen) * rate)
        bucket.seen = now
        if bucket.left < 1:
            raise ApiError(
                429,
                f"more than {self._per_minute} requests a minute with this key",
                type="rate_limit_error",
                code="rate_limit_exceeded",
                retry_after=math.ceil((1 - bucket.left) / rate),
            )
        bucket.left -= 1
