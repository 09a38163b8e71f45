"""A chat completion in OpenAI's format: one JSON object, or server-sent events."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mica_ray.serving.http.backend import FinishReason, FunctionCall, TextDelta, TextLogprob, Usage
from mica_ray.serving.http.responses import event
from mica_ray.serving.openai.choices import Choice

_THINKING = "reasoning_content"
"""Field next to `content`, named as in other servers of thinking models; OpenAI's API has none."""
_IMPOSSIBLE = -9999.0
"""What OpenAI's API returns for a very unlikely token; JSON has no -inf."""


@dataclass(frozen=True, slots=True)
class ServedCompletion:
    """The id and time that all chunks of one reply share."""

    model: str
    has_logprobs: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: Sequence[Choice], usage: Usage) -> dict[str, object]:
        """Return the complete reply as one JSON object."""
        shown = [self._choice(index, choice) for index, choice in enumerate(choices)]
        return self._object("chat.completion", shown) | {"usage": _counts(usage)}

    def opening_chunk(self, index: int) -> bytes:
        """Return the first chunk of a choice, which names the role."""
        return self._chunk(index, {"role": "assistant", "content": ""})

    def chunks(self, index: int, piece: TextDelta, *, num_calls: int) -> list[bytes]:
        """Return the chunks of a piece.

        Args:
            index: of the choice.
            piece: of its reply.
            num_calls: calls of functions in the pieces before.
        """
        deltas: list[dict[str, object]] = []
        if piece.thinking:
            deltas.append({_THINKING: piece.thinking})
        if piece.text:
            deltas.append({"content": piece.text})
        for number, call in enumerate(piece.calls, start=num_calls):
            deltas.append({"tool_calls": [{"index": number, **_call_json(call)}]})
        if not deltas and piece.logprobs:
            deltas.append({})
        last = len(deltas) - 1
        chunks = [
            self._chunk(index, delta, logprobs=piece.logprobs if number == last else ())
            for number, delta in enumerate(deltas)
        ]
        if piece.finish_reason is not None:
            chunks.append(self._chunk(index, {}, piece.finish_reason))
        return chunks

    def usage_chunk(self, usage: Usage) -> bytes:
        """Return the chunk that a client requests with stream_options.include_usage."""
        return event(self._object("chat.completion.chunk", []) | {"usage": _counts(usage)})

    def _choice(self, index: int, choice: Choice) -> dict[str, object]:
        has_text = bool(choice.text.strip()) or not choice.calls
        message: dict[str, object] = {
            "role": "assistant",
            "content": choice.text if has_text else None,
            "refusal": None,
        }
        if choice.calls:
            message["tool_calls"] = [_call_json(call) for call in choice.calls]
        if choice.thinking:
            message[_THINKING] = choice.thinking
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason,
        }

    def _chunk(
        self,
        index: int,
        delta: dict[str, object],
        finish_reason: FinishReason | None = None,
        *,
        logprobs: Sequence[TextLogprob] = (),
    ) -> bytes:
        shown = self._logprobs(logprobs) if logprobs else None
        choice = {"index": index, "delta": delta, "logprobs": shown, "finish_reason": finish_reason}
        return event(self._object("chat.completion.chunk", [choice]))

    def _logprobs(self, logprobs: Iterable[TextLogprob]) -> dict[str, object] | None:
        if not self.has_logprobs:
            return None
        return {"content": [logprob_json(logprob) for logprob in logprobs], "refusal": None}

    def _object(self, kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
            "choices": choices,
        }


def logprob_json(logprob: TextLogprob) -> dict[str, object]:
    """Return the log probability of a token in OpenAI's form."""
    return _token_json(logprob.text, logprob.logprob) | {
        "top_logprobs": [_token_json(text, value) for text, value in logprob.top]
    }


def _token_json(text: str, logprob: float) -> dict[str, object]:
    value = max(logprob, _IMPOSSIBLE) if math.isfinite(logprob) else _IMPOSSIBLE
    # A token that is only a part of a character has bytes that we do not know.
    encoded = None if "\ufffd" in text else list(text.encode("utf-8", "replace"))
    return {"token": text, "logprob": value, "bytes": encoded}


def _call_json(call: FunctionCall) -> dict[str, object]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _counts(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
