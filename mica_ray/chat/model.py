"""Messages in, message out: what every simulator, director, judge and text policy looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from mica_ray.types import Message, Sampling

JsonSchema = Mapping[str, object]


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


class ChatError(Exception):
    """A chat model gave no usable answer.

    Attributes:
        kind: "timeout", "infrastructure" (endpoint down, overloaded), "refused" (key, model name, request
            shape: a retry cannot help) or "content" (an answer came, and it is unusable).
        endpoint: what was asked, for the message to the user.
    """

    def __init__(
        self, message: str, *, kind: Literal["timeout", "infrastructure", "refused", "content"], endpoint: str
    ) -> None:
        """Keep the kind and the endpoint beside the message."""
        super().__init__(message)
        self.kind = kind
        self.endpoint = endpoint


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
