"""Judges with rules, and dialogues whose rewards under both are easy to compute."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from mica_ray.chat.model import ChatError
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.types import Judgement, Scenario, State, Status, Stop, Trajectory, Turn


def scored(points: float) -> Judgement:
    """A change of `points` on axis C."""
    return Judgement((0, 0, 0), (0, 0, 0), (points, 0.0, 0.0))


def scenario(name: str) -> Scenario:
    return Scenario(
        id=name, domain="test", category="work", dominant_axis="C", persona="Somebody.", opening="Hello.",
        initial_state=(-11.0, 0.0, 0.0), stages=(), split="train",
    )  # fmt: skip


def talked(name: str, *points: float | None, group: int = 0, sample: int = 0) -> Trajectory:
    """A dialogue whose turns got these points from the training judge; None: the judgement failed."""
    turns: list[Turn] = []
    state: State = (-11.0, 0.0, 0.0)
    for index, value in enumerate(points):
        judgement = scored(value) if value is not None else Judgement.failed(Status.INVALID, "no JSON")
        state = (state[0] + (value or 0.0), 0.0, 0.0)
        turns.append(Turn(index, f"user {index}", f"reply {index}", judgement, state))
    return Trajectory(scenario(name), group, sample, tuple(turns), Stop.LIMIT)


@dataclass
class ListJudge:
    """Returns points by turn; None fails, an exception is raised, a value above 100 also waits so long."""

    points: Sequence[float | None | Exception]
    asked: list[tuple[str, State, int]] = field(default_factory=list)
    """Last reply, state and seed of every call."""

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        self.asked.append((str(dialogue[-1]["reply"]), state, seed))
        value = self.points[(len(dialogue) - 1) % len(self.points)]
        if isinstance(value, Exception):
            raise value
        if value is None:
            return Judgement.failed(Status.TIMED_OUT, "late")
        if value > 100:
            await asyncio.sleep(value)
        return scored(value)


OUTAGE = ChatError("the endpoint is down", kind="refused", endpoint="audit")
