"""What a check of the doctor found, and how checks are run: each with a deadline, none with a traceback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mica_ray.config.references import ConfigError
from mica_ray.error_lines import first_line

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the doctor's table."""

    subject: str
    status: Status
    """failed: a run cannot work. warning: it can, but something is missing or slow."""
    found: str
    fix: str = ""
    """What to do; empty if there is nothing to do."""

    @property
    def line(self) -> str:
        """The finding as one line."""
        return f"{self.subject}: {self.found}. {self.fix}".strip()


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to check."""

    subject: str
    run: Callable[[], Finding | Sequence[Finding]]
    """Raises ConfigError, or any other error, if the check fails."""
    deadline_seconds: float = 30.0


def run_checks(checks: Sequence[Check]) -> list[Finding]:
    """Run the checks one after another, and return what they found, in the same order.

    A check that raises or misses its deadline is a failed finding. One that hangs is left behind in a daemon
    thread.
    """
    return [finding for check in checks for finding in _run(check)]


def _run(check: Check) -> Sequence[Finding]:
    found: list[Finding] = []

    def work() -> None:
        try:
            outcome = check.run()
            found.extend([outcome] if isinstance(outcome, Finding) else outcome)
        except ConfigError as error:
            found.append(_failure(check.subject, str(error)))
        except Exception as error:
            reason = f"the check failed with {type(error).__name__}: {first_line(error)}"
            found.append(Finding(check.subject, "failed", reason, "Check this part by hand."))

    thread = threading.Thread(target=work, name=f"check {check.subject}", daemon=True)
    thread.start()
    thread.join(check.deadline_seconds)
    if thread.is_alive():
        reason = f"no answer within {check.deadline_seconds:g} s"
        return [Finding(check.subject, "failed", reason, "Check that it is reachable and not overloaded.")]
    return found


def _failure(subject: str, message: str) -> Finding:
    """Split one of our messages into what is wrong and what to do, at its last sentence but one."""
    found, _, fix = " ".join(message.split()).partition(". ")
    return Finding(subject, "failed", found.rstrip("."), fix)
