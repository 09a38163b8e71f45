"""Reads the reply in a chat completion: strict about the text that is needed, about nothing else.

Errors inside a completion are read by chat/error_body.py; chat/openai_api.py sends the request.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mica_ray.chat.error_body import (
    EndpointError,
    as_fields,
    as_list,
    message_of,
    one_line,
    parsed,
    plain_name,
    read_error,
)
from mica_ray.chat.model import ChatError, ChatReply, FinishReason
from mica_ray.chat.thinking import Spoken, UnclosedThoughtError, split_thinking
from mica_ray.secrets import redact, redact_whole

Fields = Mapping[str, object]

_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    **dict.fromkeys(
        ("stop", "end_turn", "eos", "eos_token", "stop_sequence", "stop_token", "complete", "completed"),
        "stop",
    ),
    **dict.fromkeys(
        ("length", "max_tokens", "max_output_tokens", "max_completion_tokens", "max_length", "model_length",
         "context_length", "model_context_window_exceeded"),
        "length",
    ),
    **dict.fromkeys(
        ("content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content",
         "spii", "refusal", "sensitive", "guardrail_intervened"),
        "content_filter",
    ),
}  # fmt: skip
_BROKEN_OFF: Final = (
    "error",
    "abort",
    "aborted",
    "cancelled",
    "network_error",
    "insufficient_system_resource",
)
"""Finish reasons of a server that stopped in the middle of an answer."""
_ERROR_TEXTS: Final = (
    "error", "errors", "errormessage", "errormsg", "errorcode", "message", "msg", "detail", "fault",
    "baseresp",
)  # fmt: skip
"""Fields, as `plain_name` writes them, that make a body without choices an error."""
_REASONING: Final = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "reasoning_details")
"""Names of the model's reasoning next to its text, in the order in which they are tried."""
_MORE_TOKENS: Final = "Raise max_tokens, or turn the model's thinking off."
_MOST_TOKENS: Final = 10**9
"""A larger count of a single answer is a mistake of the endpoint."""
_LEVELS: Final = 8
"""Maximum depth of reasoning within a message."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The billed tokens of a response, as far as it reports them; 0 where it does not."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class NoCompletionError(ValueError):
    """The body is not a chat completion. `usage` is what it nevertheless cost."""

    def __init__(self, problem: str, usage: Usage) -> None:
        super().__init__(problem)
        self.usage = usage


class ReportedError(Exception):
    """An answer with status 200 that contains an error instead of text."""

    def __init__(self, error: EndpointError, usage: Usage) -> None:
        super().__init__(error.said)
        self.error, self.usage = error, usage


def read_reply(body: bytes, *, model: str, endpoint: str) -> ChatReply:
    """Read the reply from a response body with status 200.

    Args:
        body: the response. White space before the JSON keeps a connection alive and is ignored.
        model: name of the requested model, if the response names none.
        endpoint: name of the endpoint, for errors.

    Raises:
        NoCompletionError: the body is not a chat completion.
        ReportedError: the body, or its choice, contains an error.
        ChatError: the completion has no text.
    """
    payload = parsed(body)
    completion = as_fields(payload)
    usage = read_usage(completion.get("usage"))
    if error := _error_in(payload):
        raise ReportedError(error, usage)
    choice = as_fields(next(iter(as_list(completion.get("choices"))), None))
    reason = _reason_text(choice)
    for error in (choice.get("error"), as_fields(choice.get("message")).get("error")):
        if _is_error(error):
            raise ReportedError(read_error({"error": error}), usage)
    if reason in _BROKEN_OFF:
        said = f'the answer broke off with finish_reason "{reason}"'
        raise ReportedError(EndpointError(said, None, frozenset(), choice), usage)
    # A filter may withhold the whole message, but a choice without both is no choice.
    if "message" not in choice and "finish_reason" not in choice:
        begin = one_line(message_of(payload)) or "an empty body"
        raise NoCompletionError(f"there is no message in it, which begins: {begin}", usage)
    spoken = _spoken(as_fields(choice.get("message")), reason, endpoint, usage)
    served = completion.get("model")
    return ChatReply(
        text=redact_whole(spoken.text),
        model=redact(served) if isinstance(served, str) and served else model,
        thinking=redact_whole(spoken.thinking),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        finish_reason=_FINISH_REASONS.get(reason),
    )


def read_usage(usage: object) -> Usage:
    """Read the billed tokens: whatever of them is a sensible number. Fractions are rounded up."""
    fields = as_fields(usage)
    prompt = _count(fields, "prompt_tokens", "input_tokens")
    completion = _count(fields, "completion_tokens", "output_tokens")
    total = _count(fields, "total_tokens")
    if total is not None:
        prompt = max(0, total - (completion or 0)) if prompt is None else prompt
        completion = max(0, total - prompt) if completion is None else completion
    return Usage(prompt or 0, completion or 0)


def _count(fields: Fields, *names: str) -> int | None:
    for name in names:
        value = fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            continue
        try:
            number = float(value)
        except (ValueError, OverflowError):
            continue
        if math.isfinite(number) and 0 <= number <= _MOST_TOKENS:
            return math.ceil(number)
    return None


def _error_in(payload: object) -> EndpointError | None:
    """Return the error that a body with status 200 reports; None if it reports none."""
    if items := as_list(payload):
        return read_error(items) if _is_error(as_fields(items[0]).get("error")) else None
    fields = as_fields(payload)
    if _is_error(fields.get("error")):
        return read_error(fields)
    says = any(plain_name(name) in _ERROR_TEXTS and value for name, value in fields.items())
    is_error = not fields.get("choices") and (says or "error" in (fields.get("object"), fields.get("type")))
    return read_error(fields) if is_error else None


def _is_error(value: object) -> bool:
    """Whether the value of an `error` field is an error; some endpoints always send one without content."""
    fields = as_fields(value)
    return any(fields.values()) if fields else bool(value)


def _reason_text(choice: Fields) -> str:
    """Return the finish reason in lower case, without the prefix of an enumeration; empty if unknown."""
    names = ("finish_reason", "native_finish_reason", "stop_reason")
    found = (value for name in names if isinstance(value := choice.get(name), str) and value)
    return re.sub(r"^finish_?reason[._]", "", next(found, "").strip().lower())


def _spoken(message: Fields, reason: str, endpoint: str, usage: Usage) -> Spoken:
    """Return the text and the thoughts of a message.

    Raises:
        ChatError: there is no text. Not transient: a retry would repeat the same request with the same seed.
    """
    text, thoughts = _text_and_thoughts(message.get("content"))
    reasoning = next((found for name in _REASONING if (found := _flat(message.get(name)))), "")
    problem = None
    try:
        spoken = split_thinking(text, "\n".join(filter(None, (reasoning, thoughts))))
        if spoken.text.strip():
            return spoken
        problem = _why_empty(message, reason, has_thoughts=bool(spoken.thinking))
    except UnclosedThoughtError as error:
        problem = str(error)
    raise ChatError(
        f"{endpoint}: {problem}",
        kind="content",
        endpoint=endpoint,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _why_empty(message: Fields, reason: str, *, has_thoughts: bool) -> str:
    refusal = _refusal(message)
    if refusal:
        return f"the model refused: {one_line(refusal)} Change the prompt, or use another model."
    if _FINISH_REASONS.get(reason) == "content_filter":
        return (
            f"a content filter withheld the answer (finish reason {reason}). Change the prompt or the filter."
        )
    if has_thoughts:
        return f"the model wrote only its reasoning. {_MORE_TOKENS}"
    if _FINISH_REASONS.get(reason) == "length":
        return f"the answer is empty (finish reason {reason}). {_MORE_TOKENS}"
    if message.get("tool_calls") or message.get("function_call"):
        return "the model called a tool instead of answering. Turn its tools off."
    return f"the answer is empty (finish reason {reason or 'none'}). The model or its filter declined."


def _refusal(message: Fields) -> str:
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal.strip():
        return refusal
    parts = as_list(message.get("content"))
    texts = (fields.get("refusal") for part in parts if (fields := as_fields(part)).get("type") == "refusal")
    return " ".join(text for text in texts if isinstance(text, str))


def _text_and_thoughts(content: object) -> tuple[str, str]:
    """Return what a message's content says and thinks: a text, a part, a list of parts, or nothing."""
    if isinstance(content, str):
        return content, ""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in as_list(content) or [as_fields(content)]:
        fields = as_fields(part)
        kind = str(fields.get("type") or "text").lower()
        if "thinking" in kind or "reasoning" in kind:
            thoughts.append(_flat(fields))
        elif kind.endswith("text"):
            texts.append(_flat(part))
    return "".join(texts), "\n".join(filter(None, thoughts))


def _flat(value: object, level: int = 0) -> str:
    """Return the text in a value of any shape: a text, an object with a text, or a list of these."""
    if isinstance(value, str):
        return value
    if level > _LEVELS:
        return ""
    if items := as_list(value):
        return "".join(_flat(item, level + 1) for item in items)
    fields = as_fields(value)
    names = ("text", "value", "thinking", "reasoning", "content", "summary", "parts")
    return next((text for name in names if name in fields and (text := _flat(fields[name], level + 1))), "")
