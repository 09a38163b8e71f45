"""Rate limiting: at most so many requests or tokens per minute, evenly spaced.

Own code: the leaky bucket of aiolimiter admits twice its rate in the first minute, and neither it nor
`limits` can correct an estimate of tokens afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Spaces calls evenly: a call of n units delays the start of the next call by n / rate.

    There are no bursts: in any minute, the calls that begin exceed `per_minute` units by at most one call.
    Booking never waits and is first come, first served; the caller sleeps.

    Args:
        per_minute: units (requests or tokens) per minute.
        clock: monotonic clock in seconds.
    """

    def __init__(self, per_minute: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds_per_unit = 60.0 / per_minute
        self._clock = clock
        self._free_at = 0.0

    def seconds_until_free(self) -> float:
        """Return how many seconds a call booked now would wait."""
        return max(0.0, self._free_at - self._clock())

    def book(self, units: float) -> float:
        """Book a call and return the seconds to wait before it may begin.

        Args:
            units: requests or tokens of the call, estimated if not known yet.
        """
        now = self._clock()
        starts_at = max(now, self._free_at)
        self._free_at = starts_at + units * self._seconds_per_unit
        return starts_at - now

    def correct(self, units: float) -> None:
        """Add units to a booking, or release them if negative, once the actual amount is known."""
        self._free_at += units * self._seconds_per_unit
