"""A reply on the wire: one JSON object, or chunks of server-sent events, as OpenAI's clients read them."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field

from mica_ray.serving.http.backend import FinishReason, Usage
from mica_ray.serving.http.responses import event

_THINKING = "reasoning_content"
"""Beside `content`, as servers of thinking models name it; OpenAI's own API has no field for it."""


@dataclass(frozen=True, slots=True)
class ServedCompletion:
    """The name and time that all chunks of one reply share."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(
        self, text: str, finish_reason: FinishReason, usage: Usage, *, thinking: str = ""
    ) -> dict[str, object]:
        """Give the reply as one object."""
        message = {"role": "assistant", "content": text, "refusal": None}
        if thinking:
            message[_THINKING] = thinking
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        return self._object("chat.completion", [choice]) | {"usage": _counts(usage)}

    def opening(self) -> bytes:
        """Give the first chunk, which names the role."""
        return self._chunk({"role": "assistant", "content": ""}, None)

    def piece(self, text: str) -> bytes:
        """Give a chunk of what is said."""
        return self._chunk({"content": text}, None)

    def thought(self, thinking: str) -> bytes:
        """Give a chunk of what is thought."""
        return self._chunk({_THINKING: thinking}, None)

    def closing(self, finish_reason: FinishReason) -> bytes:
        """Give the chunk that says why the reply ends."""
        return self._chunk({}, finish_reason)

    def usage(self, usage: Usage) -> bytes:
        """Give the chunk that a client asks for by stream_options.include_usage."""
        return event(self._object("chat.completion.chunk", []) | {"usage": _counts(usage)})

    def _chunk(self, delta: dict[str, str], finish_reason: FinishReason | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event(self._object("chat.completion.chunk", [choice]))

    def _object(self, kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
            "choices": choices,
        }


def _counts(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
