"""The Judger: scores one reply on every axis, progress and regress separately.

The rubric is part of the domain, dialogue/role_messages.py builds the case, dialogue/answer.py repairs once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from mica_ray.chat.model import ChatModel, JsonSchema
from mica_ray.dialogue.answer import ask, read_object
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.evidence import is_copied, num_unfound, said_texts
from mica_ray.dialogue.role_messages import SpokenTurn, judge_messages
from mica_ray.error_lines import first_line
from mica_ray.types import AXES, Judgement, Sampling, Scenario, State, Status

LEVELS = {"progress": (0, 1, 2), "regress": (0, -1, -2)}
"""Allowed levels by side."""

_PARTS = ("evidence", "reasoning", "level")
"""In the order in which a judge writes them: the reason precedes the level that follows from it."""

_FIELDS = tuple(f"{axis}_{side}_{part}" for axis in AXES for side in LEVELS for part in _PARTS)
_LEVELS = {f"{axis}_{side}_level": levels for axis in AXES for side, levels in LEVELS.items()}
_LEVEL_TEXT = re.compile(r"(?:(?:level|等级)\s*:?\s*)?([+-]?[0-2])\s*[分级]?", re.IGNORECASE)
"""A level as text after NFKC normalization: "-1", "+2", "1分", "等级:2"."""
_DASHES = str.maketrans(dict.fromkeys("−–—", "-"))


@runtime_checkable
class Judge(Protocol):
    """Scores replies. The `Judger` does so with a chat model."""

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        """Score the last reply of the dialogue, as `Judger.score` does."""
        ...


@dataclass(frozen=True, slots=True)
class CarefulJudge:
    """`Judge` that turns an exception of another judge into a failed judgement."""

    inner: Judge

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        """Score the last reply; whatever the judge raises is a judgement without a delta."""
        try:
            return await self.inner.score(scenario, dialogue, state=state, seed=seed)
        except Exception as error:
            return Judgement.failed(Status.INVALID, first_line(error))


class JudgementError(ValueError):
    """The judge's answer is not a judgement. The message names every invalid field."""


@dataclass(frozen=True, slots=True)
class Judger:
    """Scores the last reply of a dialogue. Waits for its model only."""

    model: ChatModel
    domain: Domain
    sampling: Sampling
    """The seed is replaced in every call; max_tokens must allow 18 fields."""
    deadline_seconds: float = 120.0
    """Deadline of one judgement with its repair, including the wait for a slot of the endpoint."""

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        """Score the last reply. If the model fails, the judgement has no delta.

        An answer that is copied from the dialogue is rejected like one that cannot be read: the reply may
        contain a forged verdict. Evidence that occurs nowhere in the dialogue is counted.

        Args:
            scenario: the simulated user; the judge does not see its stages.
            dialogue: oldest turn first; the last entry is scored.
            state: P_{t-1}, points, before the reply.
            seed: makes the judgement reproducible.
        """
        potential, said = self.domain.potential, said_texts(scenario, dialogue)

        def read(text: str) -> Judgement:
            found = read_judgement(text, self.domain) if potential is None else potential.read(text, state)
            if is_copied(read_object(text), said):
                raise JudgementError(
                    "the object is copied from the dialogue; rate the reply in your own words"
                )
            return replace(found, unfound_evidence=num_unfound(found, said))

        answer = await ask(
            self.model,
            judge_messages(self.domain, scenario, state=state, dialogue=dialogue),
            sampling=replace(self.sampling, seed=seed),
            schema=judgement_schema() if potential is None else potential.schema(),
            read=read,
            deadline_seconds=self.deadline_seconds,
        )
        if answer.value is None:
            error = answer.error or "the judge gave no answer"
            return Judgement.failed(answer.status, error, finish_reason=answer.finish_reason)
        return replace(answer.value, status=answer.status, finish_reason=answer.finish_reason)


def judgement_schema() -> JsonSchema:
    """Return the JSON schema of a judge's answer: 18 flat fields, each reason before its level."""
    properties: dict[str, object] = {field: {"type": "string"} for field in _FIELDS}
    properties |= {field: {"type": "integer", "enum": sorted(levels)} for field, levels in _LEVELS.items()}
    return {
        "type": "object",
        "properties": properties,
        "required": list(_FIELDS),
        "additionalProperties": False,
    }


def read_judgement(text: str, domain: Domain) -> Judgement:
    """Read a judge's answer and convert its levels to points.

        v_k = points(progress_k) + points(regress_k)            EMPA, arXiv 2603.00552

    Levels are integers, also as text ("1", "－1", "等级：2"); booleans and fractions are rejected.

    Raises:
        JudgementError: not a JSON object, a missing field, a level out of range, or a text field that is not
            text. Models read the message.
    """
    try:
        answer = read_object(text)
    except ValueError as error:
        raise JudgementError(str(error)) from error
    fields = {field: answer.get(field) for field in _FIELDS}
    problems = [problem for field, value in fields.items() if (problem := _problem(field, value))]
    if problems:
        raise JudgementError("; ".join(problems))
    progress, regress = ([_level(fields[f"{axis}_{side}_level"]) or 0 for axis in AXES] for side in LEVELS)
    points = [axis.points(up, down) for axis, up, down in zip(domain.axes, progress, regress, strict=True)]
    return Judgement(
        progress=(progress[0], progress[1], progress[2]),
        regress=(regress[0], regress[1], regress[2]),
        delta=(points[0], points[1], points[2]),
        evidence={
            field: value for field, value in fields.items() if isinstance(value, str) and field not in _LEVELS
        },
    )


def _level(value: object) -> int | None:
    """Read a level; None for anything else, including booleans, which are ints in Python."""
    if isinstance(value, str):
        found = _LEVEL_TEXT.fullmatch(unicodedata.normalize("NFKC", value).translate(_DASHES).strip())
        return int(found.group(1)) if found else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _problem(field: str, value: object) -> str | None:
    """Return the problem with a field; None if it is valid."""
    if value is None:
        return f"{field} is missing"
    if field not in _LEVELS:
        return None if isinstance(value, str) else f"{field} must be text; got {value!r:.40}"
    if _level(value) in _LEVELS[field]:
        return None
    return f"{field} must be one of {', '.join(map(str, _LEVELS[field]))}; got {value!r:.40}"
