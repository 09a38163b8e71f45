"""The need state of a real person, estimated with the judge and the rules of training.

Used by `mica chat` and the service's support sessions. Only the person's messages are known, no scenario.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray import checks
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.judger import Judge
from mica_ray.dialogue.progress import judge_stop
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.rewards import zone_distance
from mica_ray.types import Judgement, Scenario, State, Status, Stop

_PERSONA = "Someone who writes to the service."


@dataclass(frozen=True, slots=True)
class NeedEstimator:
    """Consumes a conversation that ends with a reply, produces its judgement."""

    judge: Judge
    domain: Domain
    deadline_seconds: float = 30.0
    """For one judgement, in addition to the judge's own deadline."""

    def __post_init__(self) -> None:
        """Check the deadline."""
        checks.above(0, deadline_seconds=self.deadline_seconds)

    @property
    def start(self) -> State:
        """P_0, points: the mean initial state of the domain's scenarios, rounded to whole points."""
        states = [scenario.initial_state for scenario in self.domain.scenarios]
        c, a, p = np.round(np.mean(states, axis=0)).tolist()
        return c, a, p

    async def score_reply(self, dialogue: Sequence[SpokenTurn], *, state: State, seed: int) -> Judgement:
        """Judge the last reply. Any failure of the judge becomes a judgement without a score.

        Args:
            dialogue: oldest turn first; the last turn has the reply to judge.
            state: P_{t-1}, points: the last known one.
            seed: makes the judgement reproducible.
        """
        try:
            async with asyncio.timeout(self.deadline_seconds):
                return await self.judge.score(
                    self._person(dialogue[0]["user"]), tuple(dialogue), state=state, seed=seed
                )
        except TimeoutError:
            reason = f"The judge did not answer within {self.deadline_seconds:g} s."
            return Judgement.failed(Status.TIMED_OUT, reason)
        except Exception as error:  # A judge may be any class, and its failure must not cost the reply.
            return Judgement.failed(Status.ABANDONED, f"The judge failed: {type(error).__name__}.")

    def progress(self, states: Sequence[State]) -> Stop | None:
        """Return how the rules of training end this dialogue; None if they let it continue.

        Args:
            states: P_0 first; a turn whose judgement failed repeats the state before it.
        """
        return judge_stop(np.asarray(states), self.domain.rules)

    def _person(self, opening: str) -> Scenario:
        """Return the scenario of a person of whom only the first message is known."""
        return Scenario(
            id="unknown",
            domain=self.domain.name,
            category="unknown",
            dominant_axis=self.domain.need_order[0],
            persona=_PERSONA,
            opening=opening,
            initial_state=self.start,
            stages=(),
            split="test",
        )


def next_state(state: State, judgement: Judgement) -> State:
    """Return P_t = P_{t-1} + v_t; P_{t-1} if the judge returned no score."""
    if judgement.delta is None:
        return state
    c, a, p = (before + change for before, change in zip(state, judgement.delta, strict=True))
    return c, a, p


def distance_left(state: State) -> float:
    """Return the distance of a state from the zone in which needs count as met, in points."""
    return float(zone_distance(np.asarray(state)))
