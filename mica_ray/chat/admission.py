"""Decides when an attempt at an endpoint may begin: circuit breaker, then rate limits.

Both wait at most until the caller's deadline. The parts are chat/circuit_breaker.py and chat/pace.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal, Protocol

from mica_ray.chat.circuit_breaker import BreakerOpenError, CallOutcome, CircuitBreaker
from mica_ray.chat.model import ChatError
from mica_ray.chat.pace import Pace


class AdmissionRules(Protocol):
    """The limits of an endpoint; `Endpoint` satisfies this protocol."""

    @property
    def requests_per_minute(self) -> float | None: ...  # noqa: D102
    @property
    def tokens_per_minute(self) -> float | None: ...  # noqa: D102
    @property
    def breaker_failures(self) -> int: ...  # noqa: D102
    @property
    def breaker_pause_seconds(self) -> float: ...  # noqa: D102
    @property
    def breaker_longest_pause_seconds(self) -> float: ...  # noqa: D102


class Admission:
    """Admits attempts at one endpoint. Waits, but never beyond a deadline.

    Args:
        rules: limits of the endpoint.
        name: name of the endpoint, for error messages.
    """

    def __init__(self, rules: AdmissionRules, name: str) -> None:
        self._rules, self._name = rules, name
        self.breaker = CircuitBreaker(
            rules.breaker_failures, rules.breaker_pause_seconds, rules.breaker_longest_pause_seconds
        )
        self._requests = Pace(rules.requests_per_minute) if rules.requests_per_minute else None
        self._tokens = Pace(rules.tokens_per_minute) if rules.tokens_per_minute else None

    @asynccontextmanager
    async def attempt(self, until: float, tokens: int) -> AsyncGenerator[None]:
        """Wait for permission, run the attempt inside the context, and record its outcome.

        A ChatError of kind "timeout" or "infrastructure" raised inside counts as a failure of the endpoint.

        Args:
            until: the caller's deadline on the monotonic clock.
            tokens: estimated tokens of the attempt; `correct_tokens` replaces the estimate.

        Raises:
            ChatError: the wait would exceed the deadline.
        """
        is_probe = await self._permission(until, tokens)
        outcome = CallOutcome.ABANDONED
        try:
            yield
            outcome = CallOutcome.ANSWERED
        except ChatError as error:
            is_failure = error.kind in ("timeout", "infrastructure")
            outcome = CallOutcome.FAILED if is_failure else CallOutcome.ANSWERED
            raise
        finally:
            self.breaker.settle(outcome, is_probe=is_probe)

    def correct_tokens(self, estimated: int, actual: int) -> None:
        """Replace the estimated tokens of an attempt by the actual ones."""
        if self._tokens is not None:
            self._tokens.correct(actual - estimated)

    async def _permission(self, until: float, tokens: int) -> bool:
        """Wait for breaker and pace; return whether the attempt is the breaker's probe."""
        while True:
            is_probe = await self._pass_breaker(until)
            try:
                await self._keep_pace(until, tokens)
            except BaseException:
                self.breaker.settle(CallOutcome.ABANDONED, is_probe=is_probe)
                raise
            # The breaker may have opened while this call waited for its slot.
            if is_probe or not self.breaker.is_open:
                return is_probe

    async def _pass_breaker(self, until: float) -> bool:
        try:
            return await self.breaker.admit(until)
        except BreakerOpenError as error:
            raise self._error(
                f"paused after {self.breaker.failures_in_a_row} consecutive failures, and the next probe is "
                "after the deadline. Check that the server runs and is not overloaded.",
                "infrastructure",
            ) from error

    async def _keep_pace(self, until: float, tokens: int) -> None:
        booked = [
            (pace, units) for pace, units in ((self._requests, 1), (self._tokens, tokens)) if pace is not None
        ]
        wait = max((pace.seconds_until_free() for pace, _ in booked), default=0.0)
        if wait > 0 and time.monotonic() + wait > until:
            rates = {
                "requests_per_minute": self._rules.requests_per_minute,
                "tokens_per_minute": self._rules.tokens_per_minute,
            }
            limits = " or ".join(f"{name}={rate:g}" for name, rate in rates.items() if rate is not None)
            raise self._error(
                f"the rate limits allow this call in {wait:.3g} s, which is after its deadline. "
                f"Raise {limits}, or play fewer dialogues at once.",
                "timeout",
            )
        if waits := [pace.book(units) for pace, units in booked]:
            await asyncio.sleep(max(waits))

    def _error(self, problem: str, kind: Literal["timeout", "infrastructure"]) -> ChatError:
        return ChatError(f"{self._name}: {problem}", kind=kind, endpoint=self._name)
