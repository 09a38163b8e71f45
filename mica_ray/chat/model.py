"""Messages in, message out: what every simulator, director, judge and text policy looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from mica_ray.types import Message, Sampling

JsonSchema = Mapping[str, object]
ErrorKind = Literal["timeout", "infrastructure", "refused", "content"]


@dataclass(frozen=True, slots=True)
class ChatReply:
    """A model's answer and what it cost."""

    text: str
    model: str
    """Name of the model that answered."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    attempts: int = 1
    """Calls made until this answer came; 1 means the first one succeeded."""
    thinking: str = ""
    """What the model thought before it spoke, where it is known; never a part of `text`."""
    is_verbatim: bool = False
    """Whether the text is fixed, so that asking again cannot produce other words."""


class ChatError(Exception):
    """A chat model gave no usable answer.

    Attributes:
        kind: "timeout", "infrastructure" (endpoint down, overloaded), "refused" (key, model name, request
            shape: a retry cannot help) or "content" (an answer came, and it is unusable).
        endpoint: what was asked, for the message to the user.
        prompt_tokens: billed although the answer is unusable; 0 where nothing is known.
        completion_tokens: as `prompt_tokens`.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind,
        endpoint: str,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
    ) -> None:
        """Keep what is known beside the message."""
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.endpoint = endpoint
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens

    def __reduce__(self) -> tuple[object, ...]:
        """Travel between processes with what is known."""
        counts = (self.prompt_tokens, self.completion_tokens)
        return chat_error, (str(self), self.kind, self.endpoint, *counts)


def chat_error(
    message: str, kind: ErrorKind, endpoint: str, prompt_tokens: int = 0, completion_tokens: int = 0
) -> ChatError:
    """Make an error anew of what was written down of it, or sent."""
    return ChatError(
        message,
        kind=kind,
        endpoint=endpoint,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )


@runtime_checkable
class ChatModel(Protocol):
    """Anything that answers a conversation with one message."""

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Answer the conversation.

        Args:
            messages: the conversation so far; the last message is not from the assistant.
            sampling: how to sample.
            schema: JSON schema the answer must satisfy, None for free text. Callers still validate: not every
                endpoint enforces it.

        Raises:
            ChatError: no usable answer, after the model's own retries.
        """
        ...
