"""Keep to so many requests or tokens a minute, evenly spaced.

A leaky bucket such as aiolimiter's lets twice its rate through in the first minute, and takes no correction.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Spaces calls evenly: a call of n units moves the start of the next one n / rate later.

    No burst: within any minute at most one call more than `per_minute` units begins. Booking is instant and
    first come, first served; the caller does the waiting.

    Args:
        per_minute: units a minute, requests or tokens.
        clock: seconds that only ever grow.
    """

    def __init__(self, per_minute: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds_per_unit = 60.0 / per_minute
        self._clock = clock
        self._free_at = 0.0

    def seconds_until_free(self) -> float:
        """Give the seconds that a call booked now would wait."""
        return max(0.0, self._free_at - self._clock())

    def book(self, units: float) -> float:
        """Book a call and give the seconds to wait before it may begin.

        Args:
            units: what the call takes, estimated where it is not known yet.
        """
        now = self._clock()
        starts_at = max(now, self._free_at)
        self._free_at = starts_at + units * self._seconds_per_unit
        return starts_at - now

    def correct(self, units: float) -> None:
        """Add units to what was booked, or with a minus give them back: the call took another amount."""
        self._free_at += units * self._seconds_per_unit
