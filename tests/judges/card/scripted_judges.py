"""Judges that are rules, with a known error each; chat models, so that they are asked in other words too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.types import AXES, Judgement, Message, Sampling, Scenario, State

Levels = Mapping[str, int]
"""Levels by axis and side, such as {"A_progress": 2}; the others are 0."""


def answer(levels: Levels) -> str:
    """A judge's whole answer."""
    fields: dict[str, object] = {}
    for axis in AXES:
        for side in ("progress", "regress"):
            fields[f"{axis}_{side}_evidence"] = ""
            fields[f"{axis}_{side}_reasoning"] = "by rule"
            fields[f"{axis}_{side}_level"] = levels.get(f"{axis}_{side}", 0)
    return json.dumps(fields)


@dataclass(frozen=True)
class Steady:
    """Levels follow from the length of the reply and from nothing else: it agrees with itself completely.

    C progress 0, 1, 2 for up to 10, up to 40 and more characters.
    """

    def levels(self, case: Mapping[str, Any], instructions: str, seed: int) -> Levels:
        length = len(case["dialogue"][-1]["reply"])
        return {"C_progress": (length > 10) + (length > 40)}

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        case = json.loads(messages[1]["content"])
        text = answer(self.levels(case, messages[0]["content"], sampling.seed or 0))
        return ChatReply(text, model="rules", prompt_tokens=100, completion_tokens=20)


@dataclass(frozen=True)
class Noisy(Steady):
    """A is +3 or 0 points with equal chances, by the seed: variance 2.25, standard deviation 1.5."""

    def levels(self, case: Mapping[str, Any], instructions: str, seed: int) -> Levels:
        return {**super().levels(case, instructions, seed), "A_progress": 2 if seed % 2 else 0}


@dataclass(frozen=True)
class OrderBiased(Steady):
    """The axis whose field is asked first gets one level more: +1 point."""

    def levels(self, case: Mapping[str, Any], instructions: str, seed: int) -> Levels:
        first = min(AXES, key=lambda axis: instructions.index(f"- {axis}_progress_evidence"))
        return {f"{first}_progress": 1}


@dataclass(frozen=True)
class Fooled(Steady):
    """Credits the user's own words (P +3), punishes a long dialogue (A -2 from turn 4)."""

    def levels(self, case: Mapping[str, Any], instructions: str, seed: int) -> Levels:
        last = case["dialogue"][-1]
        echoes = last["reply"] == last["user"]
        return {"P_progress": 2 if echoes else 0, "A_regress": -1 if len(case["dialogue"]) > 3 else 0}


@dataclass(frozen=True)
class Broken(Steady):
    """Every second question gets a level out of range, whatever the repair; the others are right."""

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        if (sampling.seed or 0) % 2:
            return ChatReply(answer({"C_progress": 7}), model="rules")
        return await super().chat(messages, sampling, schema)


@dataclass
class Flaky:
    """The first `failures` calls fail, the others are answered like `Steady`."""

    failures: int = 3
    calls: int = 0

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        self.calls += 1
        if self.calls <= self.failures:
            raise ChatError("too busy", kind="infrastructure", endpoint="rules")
        return await Steady().chat(messages, sampling, schema)


@dataclass(frozen=True)
class Scorer:
    """A judge without instructions: an object with score(), as in domains/README.md."""

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        return Judgement(progress=(1, 0, 0), regress=(0, 0, 0), delta=(1.0, 0.0, 0.0))
