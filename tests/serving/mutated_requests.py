"""Mutated requests over all routes: bodies changed in structure or in bytes, headers, methods, paths."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SESSION = "SESSION"
"""Replaced by the id of an open session."""

_TOOL = {
    "name": "find_help",
    "description": "Find.",
    "parameters": {"type": "object", "properties": {"a": {}}},
}
_CALL = {"id": "c", "type": "function", "function": {"name": "find_help", "arguments": '{"a": 1}'}}
_SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["a", 1]}, "of": {"$ref": "#/$defs/b"}},
           "$defs": {"b": {"type": "array", "items": {"type": "string", "maxLength": 5}}}}  # fmt: skip
_CHAT: dict[str, Any] = {
    "model": "support",
    "messages": [
        {"role": "system", "content": "Be kind.", "name": "a"},
        {"role": "user", "content": [{"type": "text", "text": "I am ill."}]},
        {"role": "assistant", "content": None, "tool_calls": [_CALL], "refusal": None},
        {"role": "tool", "tool_call_id": "c", "content": "116 123"},
        {"role": "user", "content": "Yes."},
    ],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 5,
    "max_completion_tokens": 6,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 4,
    "min_p": 0.1,
    "presence_penalty": 1,
    "frequency_penalty": -1,
    "repetition_penalty": 1.1,
    "logit_bias": {"5": 1.5},
    "n": 2,
    "logprobs": True,
    "top_logprobs": 2,
    "stop": ["\n", "end"],
    "seed": 7,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": _SCHEMA, "strict": True},
    },
    "tools": [{"type": "function", "function": _TOOL}],
    "tool_choice": {"type": "function", "function": {"name": "find_help"}},
    "metadata": {"locale": "de"},
    "chat_template_kwargs": {"enable_thinking": False},
    "user": "u",
}
_RESPONSE: dict[str, Any] = {
    "model": "support",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "function_call", "call_id": "c", "name": "find_help", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "116 123"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Oh."}]},
        {"role": "user", "content": "Yes."},
    ],
    "instructions": "Be kind.",
    "stream": True,
    "max_output_tokens": 9,
    "text": {"format": {"type": "json_schema", "name": "a", "schema": _SCHEMA}},
    "tools": [{"type": "function", **_TOOL}],
    "tool_choice": "auto",
    "include": ["message.output_text.logprobs"],
    "reasoning": {"effort": "low"},
    "metadata": {"locale": "de"},
}
SEEDS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/v1/chat/completions", _CHAT),
    ("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}]}),
    ("POST", "/v1/responses", _RESPONSE),
    ("POST", "/v1/responses", {"input": "hello"}),
    ("POST", "/v1/support/sessions", {"model": "support", "locale": "de"}),
    ("POST", f"/v1/support/sessions/{SESSION}/messages", {"content": "hello", "stream": True}),
    ("POST", f"/v1/support/sessions/{SESSION}/messages", {"content": "hello"}),
    (
        "POST",
        "/v1/support/votes",
        {"left": "support", "right": "other", "choice": "left", "session": SESSION},
    ),
    ("GET", f"/v1/support/sessions/{SESSION}", {}),
    ("GET", "/v1/models/support", {}),
    ("GET", "/v1/models", {}),
    ("GET", "/v1/support", {}),
    ("GET", "/v1/responses/resp_1", {}),
    ("DELETE", "/v1/support/sessions/none", {}),
    ("GET", "/metrics", {}),
    ("GET", "/health", {}),
    ("GET", "/static/page.js", {}),
)
_WEIGHTS = (8, 2, 6, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1)
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e308, -1e308, 2**31, 2**63, -(2**63) - 1, 10**300, 1e-320,
    "", " ", "a", "5", "-1", "true", "null", "NaN", "\0", "\u2028\u2029", "\ud800", "\udfff\ud800",
    "\ud83d\ude22", "\U0010ffff", "\ufeff", "<|im_end|>\n<|im_start|>system\n", "<think>", "</think>",
    "<tool_call>{", "data: [DONE]\n\n", "{{ 7 * 7 }}", "../../etc/passwd", "\r\nX: y", "a" * 40_000,
    "𝕬" * 300, [], {}, [[]], [None], {"": None}, {"type": "text"}, {"\ud800": "\udc00"}, [{}],
    {"a": {"b": {"c": []}}},
    ["a"] * 300, "system", "user", "assistant", "tool", "developer", "function", "json_object", "json_schema",
    "required", "none", "auto", {"$ref": "#"}, {"anyOf": [{"$ref": "#/$defs/a"}]}, {"pattern": "(a+)+$"},
)  # fmt: skip
_MAX_CHARS = 400_000
_TYPES = (
    "application/json",
    "application/json; charset=utf-16",
    "APPLICATION/JSON",
    "text/plain",
    "",
    "\xff",
)
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE")
_TAILS = ("", "/", "//", "?x=%00", "/%2e%2e", "/\ud7ff", "%ff", "/messages", "/a/b")


@dataclass(frozen=True, slots=True)
class MutatedRequest:
    """One request, ready to be sent."""

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    content: bytes


def mutated_requests(seed: int, count: int) -> Iterator[MutatedRequest]:
    """Yield requests; equal seeds yield equal ones."""
    source = random.Random(seed)
    for _ in range(count):
        yield _request(source)


def _request(source: random.Random) -> MutatedRequest:
    method, path, body = source.choices(SEEDS, _WEIGHTS)[0]
    body = copy.deepcopy(body)
    for _ in range(source.choice((0, 1, 1, 1, 2, 3, 6))):
        if len(repr(body)) > _MAX_CHARS:  # The service refuses such a body before it reads it.
            break
        body = _changed(source, body)
    try:
        content = json.dumps(body).encode()
    except (ValueError, RecursionError):
        content = b"{}"
    if source.random() < 0.15:
        content = _broken(source, content)
    if source.random() < 0.03:
        method = source.choice(_METHODS)
    if source.random() < 0.05:
        path += source.choice(_TAILS)
    kind = _TYPES[0] if source.random() < 0.95 else source.choice(_TYPES)
    headers = [(b"host", b"localhost"), (b"content-type", kind.encode("latin-1"))]
    if source.random() < 0.1:
        text = source.choice([value for value in _VALUES if isinstance(value, str)])[:200]
        name = source.choice(
            (b"authorization", b"accept-language", b"x-request-id", b"content-length", b"origin")
        )
        headers.append((name, text.encode("utf-8", "replace")))
    return MutatedRequest(method, path, tuple(headers), content)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) in a JSON value."""
    found: list[tuple[Any, Any]] = []
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found += [(value, key), *_places(value[key])]
    return found


def _changed(source: random.Random, body: Any) -> Any:
    places = _places(body)
    if not places or source.random() < 0.02:
        return source.choice(_VALUES)
    container, key = source.choice(places)
    match source.randrange(9):
        case 0 | 1 | 2:
            container[key] = copy.deepcopy(source.choice(_VALUES))
        case 3:
            del container[key]
        case 4 if isinstance(container, dict):
            container[source.choice(["stream", "n", "", "role", "\ud800", "type", "x" * 70])] = container[key]
        case 5 if len(places) < 500:
            other, other_key = source.choice(places)
            container[key] = copy.deepcopy(other[other_key])
        case 6:
            for _ in range(source.choice((1, 3, 60))):
                container[key] = [container[key]] if source.random() < 0.5 else {"a": container[key]}
        case 7 if isinstance(container, list) and len(places) < 500:  # Larger bodies only cost time.
            container.extend(copy.deepcopy(container) * source.choice((1, 3)))
        case _:
            if isinstance(container[key], str):
                container[key] = _spoiled(source, container[key])
    return body


def _spoiled(source: random.Random, text: str) -> str:
    place = source.randrange(len(text) + 1)
    extra = "".join(chr(source.choice((0, 0x2028, 0xD800, 0xDC00, 0x1F600, 60, 124, 10))) for _ in range(3))
    return text[:place] + extra + text[place:]


def _broken(source: random.Random, content: bytes) -> bytes:
    """Change the bytes of a body."""
    place = source.randrange(len(content) + 1)
    match source.randrange(6):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + source.randbytes(3) + content[place:]
        case 2:
            return content[:place] + b'"a":1,' + content[place:]
        case 3:
            return source.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\0")) + content
        case 4:
            return content.decode().encode("utf-16")
        case _:
            return b"[" * source.choice((10, 5000)) + content
