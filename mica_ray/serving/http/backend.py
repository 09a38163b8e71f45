"""The interface between web application and models: a request in, a stream of text out.

Implemented in serving/handles.py and by small classes in tests.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mica_ray.types import Message, Sampling

FinishReason = Literal["stop", "length"]
FailureKind = Literal["refused", "too_long", "unknown_model", "busy", "unavailable", "timeout"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that clients can name in a request."""

    id: str
    """The name clients send."""
    created: int = 0
    """Unix time, seconds."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One validated request for one reply."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    is_streamed: bool = False
    """Whether the client wants the text in pieces; otherwise a backend may return it in one piece."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """One piece of a reply."""

    text: str
    """From a backend: the sampled text. From http/responder.py: the reply without its thinking."""
    finish_reason: FinishReason | None = None
    """Set only in the last piece, which also has the usage."""
    usage: Usage | None = None
    is_help_line: bool = False
    """Whether this is the operator's help line rather than the model's text."""
    begins_in_thought: bool = False
    """In a backend's first piece: whether the prompt opened a thought that this text continues."""
    thinking: str = ""
    """The model's thinking, separated from the text by http/responder.py."""


class BackendError(Exception):
    """A model returned no reply, or stopped in the middle of one.

    Attributes:
        kind: "refused" (the request can never be served), "too_long" (for the context), "unknown_model",
            "busy" (try again soon), "unavailable" (the replica died or is starting: try again), "timeout".
    """

    def __init__(self, message: str, *, kind: FailureKind) -> None:
        """Create the error; `message` is sent to the client and must not quote the conversation."""
        super().__init__(message)
        self.kind: FailureKind = kind

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the error together with its kind, for travel between processes."""
        return _backend_error, (str(self), self.kind)


def _backend_error(message: str, kind: FailureKind) -> BackendError:
    return BackendError(message, kind=kind)


class ChatBackend(Protocol):
    """The models behind the web application."""

    def models(self) -> Sequence[ServedModel]:
        """Return the models; a request that names none goes to the first."""
        ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        """Yield the reply in pieces; closing the generator stops the sampling.

        Raises:
            BackendError: before the first piece, or between two pieces.
        """
        ...
