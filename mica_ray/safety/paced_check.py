"""Runs a care check between the other work of an event loop: in short slices, and with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mica_ray import checks
from mica_ray.safety.check import CareCheck, CareFinding, CareSteps

_SLICE_SECONDS = 0.005
"""Work between two pauses. An ordinary message needs less in all."""


class PacedCare:
    """Consumes messages, produces findings, and lets other requests run while a long message is checked.

    A message longer than one slice waits until the long ones before it are checked, so that many of them
    delay each other but not the short ones. A check that does not end before its deadline counts as a finding
    of kind `unchecked`: the answer begins with the help line, because the message may need it.

    Args:
        check: the rules.
        seconds: deadline of one check, waiting included.
        clock: monotonic, seconds.
    """

    def __init__(
        self, check: CareCheck, *, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        checks.above(0, seconds=seconds)
        self._check = check
        self._seconds = seconds
        self._clock = clock
        self._long = asyncio.Lock()

    async def check(self, text: str, locale: str) -> CareFinding | None:
        """Return the finding of the check, or `unchecked` after the deadline."""
        steps = self._check.steps(text, locale)
        is_complete, finding = self._advance(steps)
        if is_complete:
            return finding
        try:
            async with asyncio.timeout(self._seconds), self._long:
                while not is_complete:
                    await asyncio.sleep(0)
                    is_complete, finding = self._advance(steps)
        except TimeoutError:
            return CareFinding("unchecked", self._check.help_line(locale))
        return finding

    def without_help_line(self, text: str) -> str:
        """Return a reply without the help line with which it begins."""
        return self._check.without_help_line(text)

    def _advance(self, steps: CareSteps) -> tuple[bool, CareFinding | None]:
        """Work for one slice; return whether the check is complete, and its finding."""
        until = self._clock() + _SLICE_SECONDS
        while self._clock() < until:
            try:
                next(steps)
            except StopIteration as end:
                return True, end.value
        return False, None
