"""Ask a judge for judgements or comparisons, and record each one when it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mica_ray.benchmarks.answers import Answer
from mica_ray.chat.model import ChatModel, JsonSchema
from mica_ray.dialogue.answer import ask
from mica_ray.types import Message, Sampling, Status


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """One judgement to ask for."""

    key: str
    """Its name in the file of answers."""
    sample: int
    messages: Callable[[], Sequence[Message]]
    """Returns what the judge reads; called when its turn comes, so that few prompts are in memory."""
    schema: JsonSchema
    read: Callable[[str], dict[str, float]]
    """Returns the scores of an answer; raises ValueError with the exact problem."""


async def judge_all(
    tasks: Sequence[JudgeTask],
    judge: ChatModel,
    sampling: Sampling,
    *,
    record: Callable[[Answer], None],
    deadline_seconds: float,
    concurrency: int = 8,
) -> tuple[str, ...]:
    """Ask for every judgement.

    An answer that cannot be read is asked for once more. If that cannot be read either, the judgement is
    recorded without scores and counted. A failed call is not recorded: the next call of the command repeats
    it.

    Args:
        tasks: what to judge.
        judge: the judge.
        sampling: of the judge.
        record: receives every judgement.
        deadline_seconds: of each judgement.
        concurrency: maximum number of judgements at the same time.

    Returns:
        Why calls failed.
    """
    slots, failures = asyncio.Semaphore(concurrency), list[str]()

    async def judge_one(task: JudgeTask) -> None:
        async with slots:
            answer = await ask(
                judge,
                task.messages(),
                sampling=sampling,
                schema=task.schema,
                read=lambda text: (text, task.read(text)),
                deadline_seconds=deadline_seconds,
            )
        if answer.value is not None:
            text, scores = answer.value
            record(Answer(task.key, task.sample, text, scores=scores))
        elif answer.status is Status.INVALID:
            record(Answer(task.key, task.sample, problem=answer.error))
        else:
            failures.append(answer.error or str(answer.status))

    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(judge_one(task))
    return tuple(failures)


def answer_schema(first: str, rest: dict[str, object]) -> JsonSchema:
    """Return the JSON schema of an answer: a text of reasons, then the given fields, all of them required."""
    properties = {first: {"type": "string"}, **rest}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
