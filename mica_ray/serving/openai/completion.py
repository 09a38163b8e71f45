"""A chat completion in OpenAI's format: one JSON object, or server-sent events."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field

from mica_ray.serving.http.backend import FinishReason, Usage
from mica_ray.serving.http.responses import event

_THINKING = "reasoning_content"
"""Field next to `content`, named as in other servers of thinking models; OpenAI's API has none."""


@dataclass(frozen=True, slots=True)
class ServedCompletion:
    """The id and time that all chunks of one reply share."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(
        self, text: str, finish_reason: FinishReason, usage: Usage, *, thinking: str = ""
    ) -> dict[str, object]:
        """Return the complete reply as one JSON object."""
        message = {"role": "assistant", "content": text, "refusal": None}
        if thinking:
            message[_THINKING] = thinking
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        return self._object("chat.completion", [choice]) | {"usage": _counts(usage)}

    def opening_chunk(self) -> bytes:
        """Return the first chunk, which names the role."""
        return self._chunk({"role": "assistant", "content": ""}, None)

    def text_chunk(self, text: str) -> bytes:
        """Return a chunk of the reply's text."""
        return self._chunk({"content": text}, None)

    def thinking_chunk(self, thinking: str) -> bytes:
        """Return a chunk of the model's thinking."""
        return self._chunk({_THINKING: thinking}, None)

    def closing_chunk(self, finish_reason: FinishReason) -> bytes:
        """Return the chunk with the finish reason."""
        return self._chunk({}, finish_reason)

    def usage_chunk(self, usage: Usage) -> bytes:
        """Return the chunk that a client requests with stream_options.include_usage."""
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
