"""Score finished conversations with a judge: 0 to 20 for each criterion of the rubric."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from mica_ray.benchmarks.eqbench3.conversations import Conversation
from mica_ray.benchmarks.eqbench3.items import SCORED, EqBench3, filled
from mica_ray.benchmarks.eqbench3.judging import JudgeTask, answer_schema
from mica_ray.benchmarks.eqbench3.transcript import guarded, plain, transcript
from mica_ray.dialogue.answer import read_object
from mica_ray.types import Message

MAX_SCORE = 20
"""Highest score of a criterion."""
REASONING = "chain_of_thought_reasoning"
"""First field of a judge's answer: its reasons, before any score."""

_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*20\s*)?")
"""A score as text: "15", or "15/20"."""


def rubric_messages(data: EqBench3, conversation: Conversation) -> tuple[Message, ...]:
    """Return what the judge reads: the whole conversation, its debrief, and the form of the answer."""
    item = conversation.item
    form = {REASONING: "your reasoning about each score, before you decide on it"}
    form |= dict.fromkeys(data.criteria(item.kind), f"0-{MAX_SCORE}")
    prompt = filled(
        data.rubric_prompt(item.kind),
        transcript=transcript(data, item, conversation.replies, is_cut=False),
        debrief=guarded(conversation.debrief or ""),
        output_format=json.dumps(form, indent=2).replace(f'"0-{MAX_SCORE}"', f"0-{MAX_SCORE}"),
    )
    return ({"role": "user", "content": plain(prompt)},)


def read_scores(text: str, criteria: Sequence[str], scored: Sequence[str]) -> dict[str, float]:
    """Read a judgement.

        score = 5 mean_k(value_k) over the scored criteria, 0 to 100             EQ-Bench 3

    Args:
        text: the judge's answer, one JSON object.
        criteria: what it must rate.
        scored: the criteria of the score.

    Returns:
        "score", 0 to 100, and the value of each criterion, 0 to 20.

    Raises:
        ValueError: not a JSON object, or a criterion without a number from 0 to 20. None is replaced: a score
            over fewer criteria would be another score. Models read the message.
    """
    answer = read_object(text)
    values: dict[str, float] = {}
    for name in criteria:
        if name not in answer:
            raise ValueError(f"{name} is missing; every criterion needs a number from 0 to {MAX_SCORE}")
        values[name] = _value(name, answer[name])
    return {"score": 100 / MAX_SCORE * sum(values[name] for name in scored) / len(scored), **values}


def judge_task(data: EqBench3, conversation: Conversation) -> JudgeTask:
    """Return the judgement of a conversation; the criteria are those of its kind."""
    item = conversation.item
    criteria = data.criteria(item.kind)
    return JudgeTask(
        key=item.id,
        sample=conversation.sample,
        messages=lambda: rubric_messages(data, conversation),
        schema=answer_schema(REASONING, {name: {"type": "number"} for name in criteria}),
        read=lambda text: read_scores(text, criteria, SCORED[item.kind]),
    )


def _value(name: str, given: object) -> float:
    """Return a score; a text such as "15" or "15/20" is accepted."""
    match = _NUMBER.fullmatch(given) if isinstance(given, str) else None
    number = float(match[1]) if match else given
    # NaN is in no range.
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= MAX_SCORE:
        raise ValueError(f"{name} must be a number from 0 to {MAX_SCORE}, got {given!r:.40}")
    return float(number)
