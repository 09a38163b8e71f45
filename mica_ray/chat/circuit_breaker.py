"""Leave a failing endpoint alone for a while, then send it one call to see whether it is back.

Keeps no calls and knows no endpoint; `openai_api.py` asks it before every attempt and tells it what came.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum


class CallOutcome(StrEnum):
    """What became of an attempt, as far as the endpoint's health goes."""

    ANSWERED = "answered"
    """The endpoint spoke, whatever it said: a bad answer or a refusal comes from a living server."""
    FAILED = "failed"
    """Nobody there, too late, or overloaded."""
    ABANDONED = "abandoned"
    """The caller gave up first: nothing is known."""


class BreakerOpenError(Exception):
    """The pause outlasts the caller's deadline."""


class CircuitBreaker:
    """Closed, open, or probing.

    `failures` failures in a row open it: callers of `admit` wait. After the pause one of them goes through
    as the probe. An answer closes the breaker and lets everybody go on; a failed probe doubles the pause up
    to its bound. Attempts that were on their way when it opened may close it, and never lengthen the pause.

    Consumes outcomes, produces permissions; waits for the pause and for the probe, never beyond a deadline.
    Belongs to one event loop.

    Args:
        failures: in a row, until it opens.
        pause_seconds: first pause.
        longest_pause_seconds: bound of the doubling.
        clock: seconds that only ever grow; deadlines are given on it.
    """

    def __init__(
        self,
        failures: int,
        pause_seconds: float,
        longest_pause_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures, self._clock = failures, clock
        self._first_pause, self._longest_pause = pause_seconds, longest_pause_seconds
        self._in_a_row = 0
        self._pause = 0.0
        """The pause under way or about to end in a probe; 0 while closed."""
        self._opens_at = 0.0
        self._is_probing = False
        self._changed = asyncio.Event()
        self.num_openings = 0
        """How often it went from closed to open."""

    @property
    def is_open(self) -> bool:
        """Whether calls are held back."""
        return self._pause > 0

    @property
    def failures_in_a_row(self) -> int:
        """Failures since the last answer."""
        return self._in_a_row

    async def admit(self, until: float) -> bool:
        """Wait until an attempt may be made. The caller then owes one call of `settle`.

        Args:
            until: the caller's deadline on the clock.

        Returns:
            Whether this attempt is the probe.

        Raises:
            BreakerOpenError: the deadline comes first; at once where that is certain.
        """
        while self.is_open:
            now = self._clock()
            if not self._is_probing and now >= self._opens_at:
                self._is_probing = True
                return True
            if now >= until or (not self._is_probing and self._opens_at > until):
                raise BreakerOpenError
            # While another call probes, its outcome ends the wait; otherwise the end of the pause does.
            await self._wait(until - now if self._is_probing else self._opens_at - now)
        return False

    def settle(self, outcome: CallOutcome, *, is_probe: bool) -> None:
        """Take what became of an admitted attempt."""
        if outcome is CallOutcome.ANSWERED:
            self._in_a_row, self._pause, self._is_probing = 0, 0.0, False
        elif is_probe and outcome is CallOutcome.FAILED:
            self._in_a_row += 1
            self._open(min(2 * self._pause, self._longest_pause))
        elif is_probe:
            # Another caller probes at once.
            self._is_probing = False
        elif outcome is CallOutcome.FAILED:
            self._in_a_row += 1
            if not self.is_open and self._in_a_row >= self._failures:
                self.num_openings += 1
                self._open(self._first_pause)
        self._changed.set()
        self._changed = asyncio.Event()

    def _open(self, pause: float) -> None:
        self._pause, self._is_probing = pause, False
        self._opens_at = self._clock() + pause

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
