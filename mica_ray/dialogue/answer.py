"""Structured answers of a role: ask, ask once more for a repair, then return a failure.

Director, Judger and the card rater use it; each passes a function that reads its own answer. The tolerant
JSON reader is our own: packages such as json-repair accept truncated answers and invent missing values.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from mica_ray.chat.model import ChatError, ChatModel, ChatReply, JsonSchema
from mica_ray.chat.thinking import UnclosedThoughtError, split_thinking
from mica_ray.control_marks import escape_marks
from mica_ray.types import FinishReason, Message, Sampling, Status
from mica_ray.valid_text import valid_json

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ParsedAnswer(Generic[T]):
    """The parsed value, or why there is none."""

    value: T | None
    """None if there is no usable answer."""
    status: Status
    error: str | None = None
    """Why there is no value; None if there is one."""
    finish_reason: FinishReason | None = None
    """Why the model stopped writing its last answer; None if unknown."""


async def ask(
    model: ChatModel,
    messages: Sequence[Message],
    *,
    sampling: Sampling,
    schema: JsonSchema,
    read: Callable[[str], T],
    deadline_seconds: float,
) -> ParsedAnswer[T]:
    """Ask for an answer that `read` accepts; if it is rejected, ask once more with the problem.

    An answer that was cut off is rejected even if it can be read: what is missing could change it.

    A failure of the model is a value, never an exception. OK, RETRIED (several attempts at the endpoint) and
    REPAIRED have a value. INVALID (two unusable answers), TIMED_OUT and ABANDONED (endpoint down or refusing)
    have none.

    Args:
        model: the model to ask.
        messages: the conversation.
        sampling: sampling parameters of both attempts.
        schema: JSON schema of the answer.
        read: converts the text to the value; raises ValueError with the exact problem.
        deadline_seconds: deadline of both attempts together, including the wait for a slot of the endpoint.
    """
    try:
        async with asyncio.timeout(deadline_seconds):
            return await _ask_twice(model, messages, sampling, schema, read)
    except TimeoutError:
        return ParsedAnswer(None, Status.TIMED_OUT, f"no answer within {deadline_seconds:g} s")
    except ChatError as error:
        return ParsedAnswer(None, failure_status(error), str(error))


def failure_status(error: ChatError) -> Status:
    """Return the status of a call that failed with this error."""
    statuses = {"timeout": Status.TIMED_OUT, "content": Status.INVALID}
    return statuses.get(error.kind, Status.ABANDONED)


async def _ask_twice(
    model: ChatModel,
    messages: Sequence[Message],
    sampling: Sampling,
    schema: JsonSchema,
    read: Callable[[str], T],
) -> ParsedAnswer[T]:
    first = await model.chat(messages, sampling, schema)
    status = Status.RETRIED if first.attempts > 1 else Status.OK
    try:
        return ParsedAnswer(_read_whole(first, read), status, finish_reason=first.finish_reason)
    except ValueError as problem:
        second = await model.chat([*messages, *_complaint(first.text, str(problem))], sampling, schema)
    try:
        return ParsedAnswer(_read_whole(second, read), Status.REPAIRED, finish_reason=second.finish_reason)
    except ValueError as problem:
        error = f"{problem} (after one repair attempt)"
        return ParsedAnswer(None, Status.INVALID, error, second.finish_reason)


_CUT_OFF: Mapping[FinishReason, str] = {
    "length": "the answer was cut off at its token limit; write less",
    "content_filter": "the provider's content filter cut the answer off",
}
"""The problem with an answer that was cut off, by finish reason. Models read it."""


def cut_off_problem(reply: ChatReply) -> str | None:
    """Return why a reply is not whole; None if it is, or if the endpoint reports no reason."""
    return None if reply.finish_reason is None else _CUT_OFF.get(reply.finish_reason)


def _read_whole(reply: ChatReply, read: Callable[[str], T]) -> T:
    if (problem := cut_off_problem(reply)) is not None:
        raise ValueError(problem)
    return read(reply.text)


def _complaint(answer: str, problem: str) -> tuple[Message, Message]:
    """Return the rejected answer and why: both may quote marks from the dialogue."""
    answer, problem = escape_marks(answer), escape_marks(problem)
    return (
        {"role": "assistant", "content": answer},
        {
            "role": "user",
            "content": f"That answer cannot be used: {problem}. Answer again with the corrected JSON object.",
        },
    )


_STRING_OR_MARK = re.compile(r'("(?:[^"\\]|\\.)*")|[,，]\s*(?=[}\]])|([：，])', re.DOTALL)
_MARKS = {"：": ":", "，": ","}
_MOST_STARTS = 16
"""Maximum number of opening braces to try; text before the object may contain a few."""

# A quoted reply may contain line breaks that the model did not escape.
_DECODER = json.JSONDecoder(strict=False)


def read_object(text: str) -> Mapping[str, object]:
    """Read the one JSON object in a model's answer.

    Thoughts and text before it and a code fence around it are skipped. Only a thought that opens at the start
    is removed first: otherwise the answer is read as it is, with the marks in its strings. Trailing commas,
    full-width colons and commas between fields, and line breaks inside strings are corrected. Two objects
    are rejected, because choosing one would be a guess; so is a truncated one.

    Raises:
        ValueError: there is no JSON object, it is invalid, or there are several. Models read the message.
    """
    try:
        as_it_is, spoken = (split_thinking(text, is_open=is_open).text for is_open in (False, None))
    except UnclosedThoughtError as error:
        raise ValueError("the answer ends within its thoughts and holds no JSON object") from error
    if as_it_is != spoken and "}" in spoken:
        try:
            return _read_object(as_it_is)
        except ValueError:
            return _read_object(spoken)
    return _read_object(spoken)


def _read_object(spoken: str) -> Mapping[str, object]:
    end = spoken.rfind("}") + 1
    problem = None
    for start in _starts(spoken[:end]):
        for candidate in (spoken[start:end], _tidied(spoken[start:end])):
            try:
                found, used = _DECODER.raw_decode(candidate)
            except (json.JSONDecodeError, RecursionError) as error:
                problem = str(error)
                continue
            if used == len(candidate):
                # Escapes in JSON can spell half of a surrogate pair.
                return cast("Mapping[str, object]", valid_json(found))
            raise ValueError("the answer is not one valid JSON object: something stands after it")
    if problem is None and "{" in spoken[end:]:
        raise ValueError("the answer breaks off within its JSON object")
    if problem is None:
        raise ValueError("the answer holds no JSON object")
    raise ValueError(f"the answer is not one valid JSON object: {problem}")


def _starts(text: str) -> Iterator[int]:
    """Yield the positions of outermost opening braces, not those inside a broken object."""
    depth = count = 0
    for place in re.finditer(r"[{}]", text):
        if place.group() == "}":
            depth = max(0, depth - 1)
            continue
        if depth == 0:
            count += 1
            if count > _MOST_STARTS:
                return
            yield place.start()
        depth += 1


def _tidied(text: str) -> str:
    """Drop trailing commas and replace full-width punctuation, except inside strings."""

    def corrected(match: re.Match[str]) -> str:
        return match.group(1) or _MARKS.get(match.group(2) or "", "")

    return _STRING_OR_MARK.sub(corrected, text)
