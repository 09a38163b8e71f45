"""The chat model protocol: messages in, one message out. Roles and text policies use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from mica_ray.secrets import redact
from mica_ray.types import FinishReason, Message, Sampling
from mica_ray.valid_text import valid_text

JsonSchema = Mapping[str, object]
ErrorKind = Literal["timeout", "infrastructure", "refused", "content"]


@dataclass(frozen=True, slots=True)
class ChatReply:
    """A model's answer and its cost. Its texts become valid Unicode, whichever model wrote them."""

    text: str
    model: str
    """Name of the model that answered."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    attempts: int = 1
    """Number of calls until this answer; 1 means that the first one succeeded."""
    thinking: str = ""
    """The model's reasoning, where it is known; never part of `text`."""
    finish_reason: FinishReason | None = None
    """None if the endpoint reported no reason, or none that we know."""
    is_verbatim: bool = False
    """Whether the text is fixed, so that asking again cannot produce other words."""

    def __post_init__(self) -> None:
        """Convert the texts."""
        for name in ("text", "model", "thinking"):
            object.__setattr__(self, name, valid_text(getattr(self, name)))


class ChatError(Exception):
    """A call of a chat model that returned no usable answer.

    Attributes:
        kind: "timeout", "infrastructure" (endpoint down or overloaded), "refused" (key, model name or request
            format: a retry cannot help) or "content" (the answer is unusable).
        endpoint: name of the model or endpoint, for messages.
        prompt_tokens: billed tokens of the unusable answer; 0 if unknown.
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
        """Store kind, endpoint, billed tokens and the message, as valid Unicode without secrets."""
        super().__init__(redact(valid_text(message)))
        self.kind: ErrorKind = kind
        self.endpoint = redact(endpoint)
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with all attributes, so that they survive a process boundary."""
        counts = (self.prompt_tokens, self.completion_tokens)
        return chat_error, (str(self), self.kind, self.endpoint, *counts)


def chat_error(
    message: str, kind: ErrorKind, endpoint: str, prompt_tokens: int = 0, completion_tokens: int = 0
) -> ChatError:
    """Rebuild an error from its recorded or pickled fields."""
    return ChatError(
        message,
        kind=kind,
        endpoint=endpoint,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )


@runtime_checkable
class ChatModel(Protocol):
    """A model that answers a conversation with one message."""

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Answer the conversation.

        Args:
            messages: the conversation so far; the last message is not from the assistant.
            sampling: sampling parameters.
            schema: JSON schema of the answer; None for free text. Callers must validate the answer, since
                not every endpoint enforces the schema.

        Raises:
            ChatError: there is no usable answer after the model's own retries.
        """
        ...
