"""What the operator learns about one request: id, key, model, tokens, outcome. Never any text.

The parts of the service fill it in; request_middleware.py creates it and writes the audit line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One request from its arrival to the last byte of its response."""

    id: str = ""
    key: str = ""
    """Name of the caller's key; empty without one."""
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_piece_seconds: float | None = None
    """From the call of the model to the first piece of its reply; None if there was none."""
    care: str | None = None
    """The kind of danger that the care check found."""
    error: str | None = None
    """Code of the error response, or of the failure behind a help line."""
    limits: dict[str, str] = field(default_factory=dict[str, str])
    """Response headers that tell the caller how much of its limits is left."""
    _endings: list[Callable[[RequestRecord], None]] = field(
        default_factory=list["Callable[[RequestRecord], None]"]
    )

    def at_end(self, action: Callable[[RequestRecord], None]) -> None:
        """Call an action once when the request ends, whether it succeeded or not."""
        self._endings.append(action)

    def end(self) -> None:
        """Run the actions, the last one first."""
        while self._endings:
            self._endings.pop()(self)


_CURRENT: ContextVar[RequestRecord | None] = ContextVar("request_record", default=None)


def current_record() -> RequestRecord:
    """Return the record of the request in progress; outside of one, a record that nobody reads."""
    return _CURRENT.get() or RequestRecord()


@contextmanager
def recording(record: RequestRecord) -> Iterator[None]:
    """Make a record the current one until the block ends, then run its actions."""
    token = _CURRENT.set(record)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        record.end()
