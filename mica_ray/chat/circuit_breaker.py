"""Circuit breaker: pause calls to a failing endpoint, then probe it with a single call.

Own code: the packages for this reject calls while open, where ours wait until a deadline for one probe.
chat/admission.py asks it before every attempt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum


class CallOutcome(StrEnum):
    """How an attempt ended, as far as the endpoint's health is concerned."""

    ANSWERED = "answered"
    """The endpoint responded. A bad answer or a refusal counts too: the server is alive."""
    FAILED = "failed"
    """Unreachable, timed out or overloaded."""
    ABANDONED = "abandoned"
    """The caller was cancelled first, so the health is unknown."""


class BreakerOpenError(Exception):
    """The pause ends after the caller's deadline."""


class CircuitBreaker:
    """A circuit breaker with the states closed, open and probing.

    It opens after `failures` consecutive failures; then callers of `admit` wait. After the pause one of them
    is admitted as the probe. Any answer closes the breaker and admits all callers; a failed probe doubles the
    pause up to its limit. Attempts already in flight when it opened can close it, but never extend the pause.

    Waits for the pause and the probe, never beyond a deadline. Use it in one event loop only.

    Args:
        failures: consecutive failures that open it.
        pause_seconds: duration of the first pause.
        longest_pause_seconds: upper limit of the doubled pause.
        clock: monotonic clock in seconds; deadlines refer to it.
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
        """Duration of the current pause in seconds; 0 while closed."""
        self._opens_at = 0.0
        self._is_probing = False
        self._changed = asyncio.Event()
        self.num_openings = 0
        """How often the breaker went from closed to open."""

    @property
    def is_open(self) -> bool:
        """Whether calls have to wait."""
        return self._pause > 0

    @property
    def failures_in_a_row(self) -> int:
        """Consecutive failures since the last answer."""
        return self._in_a_row

    async def admit(self, until: float) -> bool:
        """Wait until an attempt may begin. The caller must then call `settle` exactly once.

        Args:
            until: the caller's deadline on the clock.

        Returns:
            Whether this attempt is the probe.

        Raises:
            BreakerOpenError: the deadline is before the end of the pause; raised as soon as this is certain.
        """
        while self.is_open:
            now = self._clock()
            if not self._is_probing and now >= self._opens_at:
                self._is_probing = True
                return True
            if now >= until or (not self._is_probing and self._opens_at > until):
                raise BreakerOpenError
            # During a probe its outcome ends the wait, otherwise the end of the pause does.
            await self._wait(until - now if self._is_probing else self._opens_at - now)
        return False

    def settle(self, outcome: CallOutcome, *, is_probe: bool) -> None:
        """Record the outcome of an admitted attempt."""
        if outcome is CallOutcome.ANSWERED:
            self._in_a_row, self._pause, self._is_probing = 0, 0.0, False
        elif is_probe and outcome is CallOutcome.FAILED:
            self._in_a_row += 1
            self._open(min(2 * self._pause, self._longest_pause))
        elif is_probe:
            # The next waiting caller becomes the probe at once.
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
