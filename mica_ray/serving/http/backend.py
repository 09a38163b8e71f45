"""What the web application asks of the models behind it: a request as a value, a stream of text in return.

Who implements it: replicas of Ray Serve (app.py), ray.serve.llm (ray_llm.py), small classes in tests.
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
    """A model that can be asked."""

    id: str
    """The name clients send."""
    created: int = 0
    """Unix time, seconds."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request for one reply, checked."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    is_streamed: bool = False
    """Whether the text is wanted piece by piece; a backend may otherwise give it in one."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of a reply."""

    text: str
    """From a backend as it was sampled; from responder.py what is said and never what is thought."""
    finish_reason: FinishReason | None = None
    """Set in the last piece alone, which also has the usage."""
    usage: Usage | None = None
    is_help_line: bool = False
    """Whether the operator says it and not the model."""
    begins_in_thought: bool = False
    """In the first piece of a backend: the prompt ended inside a thought, and the text goes on with it."""
    thinking: str = ""
    """What is thought, told apart by responder.py."""


class BackendError(Exception):
    """A model gives no reply, or no more of it.

    Attributes:
        kind: "refused" (the request can never be served), "too_long" (for the context), "unknown_model",
            "busy" (try again soon), "unavailable" (the replica died or is starting: try again), "timeout".
    """

    def __init__(self, message: str, *, kind: FailureKind) -> None:
        """Keep the kind beside the message, which must quote nothing of the conversation."""
        super().__init__(message)
        self.kind: FailureKind = kind

    def __reduce__(self) -> tuple[object, ...]:
        """Travel between processes with the kind."""
        return _backend_error, (str(self), self.kind)


def _backend_error(message: str, kind: FailureKind) -> BackendError:
    return BackendError(message, kind=kind)


class ChatBackend(Protocol):
    """The models behind the application."""

    def models(self) -> Sequence[ServedModel]:
        """Give the models, the first being the one asked where none is named."""
        ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        """Give the reply piece by piece; closing the generator ends the generation.

        Raises:
            BackendError: before the first piece or between two.
        """
        ...
