"""A role's structured answer: asked for once, repaired once, then given up as a failure that says so.

Director and Judger share it. What a good answer holds is their business, told by the `read` they pass; how
it is found in the text a model wrote is that of `answer_text.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mica_ray.chat.model import ChatError, ChatModel, JsonSchema
from mica_ray.types import Message, Sampling, Status

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What came of asking."""

    value: T | None
    """None when no usable answer came."""
    status: Status
    error: str | None = None
    """Why there is no value; None when there is one."""


async def ask(
    model: ChatModel,
    messages: Sequence[Message],
    *,
    sampling: Sampling,
    schema: JsonSchema,
    read: Callable[[str], T],
    deadline_seconds: float,
) -> Answer[T]:
    """Ask for an answer that `read` accepts; show the model its own answer and the problem if it is refused.

    A model that fails is a value here, never an exception. OK, RETRIED (the endpoint needed several attempts)
    and REPAIRED carry a value; INVALID (two unusable answers), TIMED_OUT and ABANDONED (endpoint down or
    refusing) carry none.

    Args:
        model: who is asked.
        messages: the conversation.
        sampling: how to sample; the repair attempt samples alike.
        schema: JSON schema of the answer.
        read: turns the text into the value; raises ValueError with the exact problem.
        deadline_seconds: for both attempts together, waiting for the endpoint's free slot included.
    """
    try:
        async with asyncio.timeout(deadline_seconds):
            return await _ask_twice(model, messages, sampling, schema, read)
    except TimeoutError:
        return Answer(None, Status.TIMED_OUT, f"no answer within {deadline_seconds:g} s")
    except ChatError as error:
        return Answer(None, failure_status(error), str(error))


def failure_status(error: ChatError) -> Status:
    """Give the status of an answer that never came."""
    statuses = {"timeout": Status.TIMED_OUT, "content": Status.INVALID}
    return statuses.get(error.kind, Status.ABANDONED)


async def _ask_twice(
    model: ChatModel,
    messages: Sequence[Message],
    sampling: Sampling,
    schema: JsonSchema,
    read: Callable[[str], T],
) -> Answer[T]:
    first = await model.chat(messages, sampling, schema)
    try:
        return Answer(read(first.text), Status.RETRIED if first.attempts > 1 else Status.OK)
    except ValueError as problem:
        second = await model.chat([*messages, *_complaint(first.text, str(problem))], sampling, schema)
    try:
        return Answer(read(second.text), Status.REPAIRED)
    except ValueError as problem:
        return Answer(None, Status.INVALID, f"{problem} (after one repair attempt)")


def _complaint(answer: str, problem: str) -> tuple[Message, Message]:
    return (
        {"role": "assistant", "content": answer},
        {
            "role": "user",
            "content": f"That answer cannot be used: {problem}. Answer again with the corrected JSON object.",
        },
    )
