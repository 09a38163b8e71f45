"""Calls of functions in a model's text, in the forms that open models are trained to write.

    <tool_call>{"name": ..., "arguments": {...}}</tool_call>       Hermes, Qwen
    {"name": ..., "parameters": {...}}                             Llama 3; the whole reply
    [TOOL_CALLS][{"name": ..., "arguments": {...}}]                Mistral; the whole reply
    NAME[ARGS]{...}, <function=NAME>{...}</function>               newer Mistral, Llama 3.1; the whole reply

Only names of the request's functions count; any other text stays text. No mark has to survive decoding: the
engine drops special tokens such as [TOOL_CALLS].
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import replace

from mica_ray.serving.http.backend import FunctionCall, TextDelta
from mica_ray.valid_text import valid_json

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_WHOLE = ("{", "[", "<function=")
"""Beginnings of a reply that can be a call as a whole."""
_MAX_HELD_CHARS = 65_536


class ToolCallParser:
    """Separates calls from text. Holds text back only while it can still become a call.

    Args:
        names: of the functions that the reply may call.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._held = ""
        self._is_start = True
        """Whether only white space has been passed on, so that the whole reply can still be a call."""
        self._is_blank = True
        """Whether there was no text since the beginning or the last call."""

    def feed(self, text: str) -> tuple[str, tuple[FunctionCall, ...]]:
        """Add a piece; return what is certainly text, and the calls that are complete."""
        self._held += text
        if self._is_start and self._may_be_whole() and len(self._held) < _MAX_HELD_CHARS:
            return "", ()
        self._is_start = False
        return self._free(at_end=False)

    def end(self) -> tuple[str, tuple[FunctionCall, ...]]:
        """Return the rest."""
        if self._is_start:
            calls = self._whole_calls(self._held.strip())
            if calls:
                self._held = ""
                return "", calls
        return self._free(at_end=True)

    def _may_be_whole(self) -> bool:
        begin = self._held.lstrip()
        if any(start.startswith(begin) or begin.startswith(start) for start in _WHOLE):
            return True
        for name in self._names:
            following = begin[len(name) :].lstrip() if begin.startswith(name) else None
            if name.startswith(begin) or following == "" or (following and following[0] in "{["):
                return True
        return False

    def _free(self, *, at_end: bool) -> tuple[str, tuple[FunctionCall, ...]]:
        """Cut marked calls out of the held text; keep a begun mark or call unless it is the end."""
        passed, calls = "", list[FunctionCall]()
        while (begin := self._held.find(_OPEN)) >= 0:
            lead = self._held[:begin]
            # White space between two calls, or before the first one, belongs to them.
            text = "" if self._is_blank and not lead.strip() else lead
            end = self._held.find(_CLOSE, begin)
            if end < 0 and not at_end and len(self._held) < _MAX_HELD_CHARS:
                if text:
                    passed, self._held, self._is_blank = passed + text, self._held[begin:], False
                return passed, tuple(calls)
            stop = len(self._held) if end < 0 else end
            call = self._call(_object(self._held[begin + len(_OPEN) : stop]))
            rest = stop if end < 0 else end + len(_CLOSE)
            passed += self._held[:rest] if call is None else text
            self._is_blank = call is not None
            calls += [] if call is None else [call]
            self._held = self._held[rest:]
        kept = 0 if at_end else _begun(self._held, _OPEN)
        text = self._held[: len(self._held) - kept]
        if self._is_blank and not text.strip() and not at_end:
            return passed, tuple(calls)
        self._is_blank = False
        self._held = self._held[len(text) :]
        return passed + text, tuple(calls)

    def _whole_calls(self, text: str) -> tuple[FunctionCall, ...]:
        """Return the calls of a reply that consists of nothing else; none if there is other text."""
        text = text.removeprefix("[TOOL_CALLS]").strip()
        named = re.fullmatch(r"<function=([^>]+)>(.*)</function>", text, re.DOTALL) or re.fullmatch(
            r"([A-Za-z0-9_.-]+)\s*(?:\[ARGS\])?\s*(\{.*)", text, re.DOTALL
        )
        if named is not None:
            found: object = [{"name": named[1], "arguments": _object(named[2])}]
        else:
            found = _object(text)
        entries = found if isinstance(found, list) else [found]
        calls = [self._call(entry) for entry in entries]
        complete = tuple(call for call in calls if call is not None)
        return complete if len(complete) == len(calls) else ()

    def _call(self, found: object) -> FunctionCall | None:
        if not isinstance(found, Mapping):
            return None
        name = found.get("name")
        arguments = found.get("arguments", found.get("parameters", {}))
        if isinstance(arguments, str):
            arguments = _object(arguments)
        if not isinstance(name, str) or name not in self._names or not isinstance(arguments, Mapping):
            return None
        written = json.dumps(valid_json(arguments), ensure_ascii=False)
        return FunctionCall(f"call_{secrets.token_hex(12)}", name, written)


async def with_calls(
    pieces: AsyncGenerator[TextDelta, None], names: Collection[str]
) -> AsyncGenerator[TextDelta, None]:
    """Separate the calls from a reply's text; a reply with calls that is complete ends with "tool_calls".

    Args:
        pieces: of the reply, without its thinking.
        names: of the functions that it may call; without any, the pieces pass unchanged.
    """
    parser, has_called = ToolCallParser(names), False
    async with aclosing(pieces):
        async for piece in pieces:
            if not names or piece.is_help_line:
                yield piece
                continue
            text, calls = parser.feed(piece.text)
            if piece.finish_reason is not None:
                last_text, last_calls = parser.end()
                text, calls = text + last_text, (*calls, *last_calls)
            has_called = has_called or bool(calls)
            reason = "tool_calls" if has_called and piece.finish_reason == "stop" else piece.finish_reason
            yield replace(piece, text=text, calls=calls, finish_reason=reason)


def _object(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _begun(text: str, mark: str) -> int:
    """Return the length of the longest end of the text that begins the mark."""
    return next(
        (size for size in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:size])), 0
    )
