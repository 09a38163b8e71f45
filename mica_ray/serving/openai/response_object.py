"""A response in the format of /v1/responses: one JSON object, or a sequence of events."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.backend import FinishReason, FunctionCall, TextDelta, TextLogprob, Usage
from mica_ray.serving.http.responses import event
from mica_ray.serving.openai.choices import Choice
from mica_ray.serving.openai.completion import logprob_json

_Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ServedResponse:
    """What all events of one response share."""

    model: str
    repeated: Mapping[str, object]
    """Fields of the request."""
    has_logprobs: bool = False
    id: str = field(default_factory=lambda: f"resp_{secrets.token_hex(16)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def begun(self) -> dict[str, object]:
        """Return the response without its output."""
        return self._object("in_progress", [], None, None)

    def whole(self, items: Sequence[_Item], reason: FinishReason, usage: Usage) -> dict[str, object]:
        """Return the complete response."""
        is_cut = reason == "length"
        cause = {"reason": "max_output_tokens"} if is_cut else None
        return self._object("incomplete" if is_cut else "completed", items, cause, usage)

    def part(self, text: str, logprobs: Sequence[TextLogprob]) -> _Item:
        """Return the content of a message."""
        shown = [response_logprob(logprob) for logprob in logprobs] if self.has_logprobs else []
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": shown}

    def _object(
        self, status: str, items: Sequence[_Item], cause: Mapping[str, str] | None, usage: Usage | None
    ) -> dict[str, object]:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": cause,
            "model": self.model,
            "output": list(items),
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "truncation": "disabled",
            "usage": None if usage is None else _counts(usage),
            "user": None,
            **self.repeated,
        }


def output_items(response: ServedResponse, choice: Choice) -> list[_Item]:
    """Return the output of a complete reply: its thinking, its text, its calls."""
    status = "incomplete" if choice.finish_reason == "length" else "completed"
    items: list[_Item] = []
    if choice.thinking:
        items.append(_thought(choice.thinking, status))
    if choice.text.strip() or not choice.calls:
        items.append(_message(status, [response.part(choice.text, choice.logprobs)]))
    return [*items, *(_call(call, "completed") for call in choice.calls)]


class ResponseEvents:
    """Turns the pieces of a reply into events, each item begun, continued and finished in turn.

    Args:
        response: that they belong to.
    """

    def __init__(self, response: ServedResponse) -> None:
        self._response = response
        self._number = 0
        self._items: list[_Item] = []
        self._text = ""
        self._logprobs: list[TextLogprob] = []

    def opening(self) -> bytes:
        """Return the events before the first piece."""
        begun = self._response.begun()
        return self._event("response.created", response=begun) + self._event(
            "response.in_progress", response=begun
        )

    def piece(self, piece: TextDelta) -> bytes:
        """Return the events of one piece."""
        events = b""
        if piece.thinking:
            events += self._open("reasoning", _thought("", "in_progress"))
            events += self._delta("response.reasoning_text.delta", piece.thinking)
        if piece.text:
            events += self._open("message", _message("in_progress", []))
            shown = piece.logprobs if self._response.has_logprobs else ()
            self._logprobs += shown
            logprobs = [response_logprob(logprob) for logprob in shown]
            events += self._delta("response.output_text.delta", piece.text, logprobs=logprobs)
        for call in piece.calls:
            events += self._close() + self._call_events(call)
        if piece.finish_reason is not None:
            events += self._end(piece.finish_reason, piece.usage or Usage(0, 0))
        return events

    def failure(self, error: ApiError) -> bytes:
        """Return the event of a reply that failed after its first piece."""
        return self._event("error", message=str(error), code=error.code, param=error.param)

    def _end(self, reason: FinishReason, usage: Usage) -> bytes:
        events = b""
        if not any(item["type"] in ("message", "function_call") for item in self._items):
            events += self._open("message", _message("in_progress", []))
        events += self._close("incomplete" if reason == "length" else "completed")
        whole = self._response.whole(self._items, reason, usage)
        return events + self._event(f"response.{whole['status']}", response=whole)

    def _open(self, kind: str, item: _Item) -> bytes:
        """Begin an item, unless one of its kind is open."""
        if self._is_open and self._items[-1]["type"] == kind:
            return b""
        events = self._close()
        self._items.append(item)
        self._text = ""
        events += self._event("response.output_item.added", output_index=self._index, item=item)
        if kind == "message":
            part = self._response.part("", ())
            events += self._event("response.content_part.added", **self._place, part=part)
        return events

    def _delta(self, kind: str, text: str, **fields: object) -> bytes:
        self._text += text
        return self._event(kind, **self._place, delta=text, **fields)

    def _close(self, status: str = "completed") -> bytes:
        """Finish the open item, if there is one."""
        if not self._is_open:
            return b""
        item, place = self._items[-1], self._place
        if item["type"] == "message":
            part = self._response.part(self._text, self._logprobs)
            item = {**item, "status": status, "content": [part]}
            events = self._event(
                "response.output_text.done", **place, text=self._text, logprobs=part["logprobs"]
            ) + self._event("response.content_part.done", **place, part=part)
        else:
            item = {**_thought(self._text, status), "id": item["id"]}
            events = self._event("response.reasoning_text.done", **place, text=self._text)
        self._items[-1] = item
        return events + self._event("response.output_item.done", output_index=self._index, item=item)

    def _call_events(self, call: FunctionCall) -> bytes:
        begun, item = _call(call, "in_progress"), _call(call, "completed")
        self._items.append(item)
        place = {"output_index": self._index, "item_id": item["id"]}
        kind = "response.function_call_arguments"
        return (
            self._event(
                "response.output_item.added", output_index=self._index, item=begun | {"arguments": ""}
            )
            + self._event(f"{kind}.delta", **place, delta=call.arguments)
            + self._event(f"{kind}.done", **place, name=call.name, arguments=call.arguments)
            + self._event("response.output_item.done", output_index=self._index, item=item)
        )

    @property
    def _is_open(self) -> bool:
        return bool(self._items) and self._items[-1]["status"] == "in_progress"

    @property
    def _index(self) -> int:
        return len(self._items) - 1

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._items[-1]["id"], "output_index": self._index, "content_index": 0}

    def _event(self, kind: str, **fields: object) -> bytes:
        content = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return b"event: " + kind.encode() + b"\n" + event(content)


def response_logprob(logprob: TextLogprob) -> dict[str, Any]:
    """Return the log probability of a token; unknown bytes are an empty list in this format."""
    shown = logprob_json(logprob)
    tops: Any = shown["top_logprobs"]
    return {**_with_bytes(shown), "top_logprobs": [_with_bytes(top) for top in tops]}


def _with_bytes(token: Mapping[str, object]) -> dict[str, object]:
    return {**token, "bytes": token["bytes"] or []}


def _thought(text: str, status: str) -> _Item:
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {
        "id": f"rs_{secrets.token_hex(12)}",
        "type": "reasoning",
        "status": status,
        "summary": [],
        "content": content,
    }


def _message(status: str, content: list[_Item]) -> _Item:
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def _call(call: FunctionCall, status: str) -> _Item:
    return {
        "id": call.id.replace("call_", "fc_"),
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


def _counts(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
