"""The interface between web application and models: a request in, a stream of text out.

Implemented in serving/handles.py and by small classes in tests.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from mica_ray.types import Message, ReplyOptions, Sampling

FinishReason = Literal["stop", "length", "tool_calls"]
FailureKind = Literal["refused", "too_long", "unknown_model", "busy", "unavailable", "timeout"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that clients can name in a request."""

    id: str
    """The name clients send."""
    created: int = 0
    """Unix time, seconds."""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The functions that a reply may call, and the conversation with earlier calls and their results."""

    tools: tuple[Mapping[str, object], ...]
    """As chat templates read them; empty if the client forbids calls."""
    messages: tuple[Mapping[str, object], ...]
    """The whole conversation, results of tools included, as chat templates read it."""
    choice: str
    """auto, none, required, or the name of the function that must be called."""
    param: str
    """The request field to name if the model cannot use tools."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One validated request for one reply."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    is_streamed: bool = False
    """Whether the client wants the text in pieces; otherwise a backend may return it in one piece."""
    options: ReplyOptions = field(default_factory=ReplyOptions)
    template_arguments: Mapping[str, bool | int | float | str] = field(
        default_factory=dict[str, bool | int | float | str]
    )
    """Of the client, for the chat template, in addition to the operator's."""
    tool_use: ToolUse | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class TextLogprob:
    """One sampled token as text, and the most likely ones at its place."""

    text: str
    """Empty for a token that is only a part of a character; the token that completes it has the character."""
    logprob: float
    """Nats; -inf for a token that could not be sampled."""
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call of one of the request's functions, found in a reply by openai/tool_calls.py."""

    id: str
    name: str
    arguments: str
    """One JSON object as text."""


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
    thinking_tags: tuple[str, ...] = ()
    """In a backend's first piece: the tags of thoughts that only the model's template has."""
    thinking: str = ""
    """The model's thinking, separated from the text by http/responder.py."""
    logprobs: tuple[TextLogprob, ...] = ()
    """Of the tokens sampled since the piece before, if the request asks for them."""
    calls: tuple[FunctionCall, ...] = ()


class BackendError(Exception):
    """A model returned no reply, or stopped in the middle of one.

    Attributes:
        kind: "refused" (the request can never be served), "too_long" (for the context), "unknown_model",
            "busy" (try again soon), "unavailable" (the replica died or is starting: try again), "timeout".
        param: the request field at fault; None if no single field is.
    """

    def __init__(self, message: str, *, kind: FailureKind, param: str | None = None) -> None:
        """Create the error; `message` is sent to the client and must not quote the conversation."""
        super().__init__(message)
        self.kind: FailureKind = kind
        self.param = param

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the error together with its attributes, for travel between processes."""
        return _backend_error, (str(self), self.kind, self.param)


def _backend_error(message: str, kind: FailureKind, param: str | None) -> BackendError:
    return BackendError(message, kind=kind, param=param)


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
