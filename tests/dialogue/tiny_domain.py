"""A domain small enough to check by hand, and chat models with scripted answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mica_ray.chat.model import ChatReply, JsonSchema
from mica_ray.dialogue.domain import Axis, Domain
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.types import Message, Sampling, Scenario

# ||P_0|| = 3, and each component is what one reply at progress level 1 gives back in one turn.
SCENARIO = Scenario(
    id="tiny-1",
    domain="tiny",
    category="moving",
    dominant_axis="A",
    topic="move",
    persona="Ada, who moved to a new town.",
    opening="The move left me lonely.",
    initial_state=(-1.0, -2.0, -2.0),
    stages=("My sister stayed behind.", "I never said goodbye."),
    split="test",
)


def axis(key: str, worst: float) -> Axis:
    levels = (f"{key} 0", f"{key} 1", f"{key} 2")
    return Axis(key, f"axis {key}", levels, levels, regress_points=(0.0, -2.0, worst))


DOMAIN = Domain(
    name="tiny",
    axes=(axis("C", -4.0), axis("A", -5.0), axis("P", -5.0)),
    need_order=("A", "C", "P"),
    policy_prompt="Be kind.",
    actor_prompt="You are the user.",
    director_prompt="You direct.",
    judge_prompt="You judge.",
    rules=ProgressRules(max_turns=4, check_from=2),
    scenarios=(SCENARIO,),
)


def judgement_json(
    progress: Sequence[object] = (0, 0, 0), regress: Sequence[object] = (0, 0, 0), **changes: object
) -> str:
    """Write a judge's answer: levels in the order C, A, P, and a note in every text field."""
    answer: dict[str, object] = {}
    for key, up, down in zip("CAP", progress, regress, strict=True):
        for side, level in (("progress", up), ("regress", down)):
            answer[f"{key}_{side}_level"] = level
            answer[f"{key}_{side}_evidence"] = f"{key} {side} quote"
            answer[f"{key}_{side}_reasoning"] = "why"
    return json.dumps(answer | changes)


@dataclass(frozen=True)
class Asked:
    """One call that a fake received."""

    messages: list[Message]
    sampling: Sampling
    schema: JsonSchema | None

    @property
    def case(self) -> Mapping[str, Any]:
        return json.loads(self.messages[1]["content"])


class Forever:
    """Placeholder for an answer that never comes."""


class QueuedChat:
    """Returns the queued answers in order and repeats the last one; raises the errors among them."""

    def __init__(self, *answers: str | ChatReply | Exception | Forever) -> None:
        self._answers = list(answers)
        self.asked: list[Asked] = []

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        self.asked.append(Asked(list(messages), sampling, schema))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Forever):
            await asyncio.sleep(3600)
        return answer if isinstance(answer, ChatReply) else ChatReply(str(answer), "queued")
