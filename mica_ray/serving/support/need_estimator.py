"""The need state of someone who really speaks, judged turn by turn by training's judge and rules of progress.

`mica chat` and the support sessions of the service show it. Nobody played this person: all that is known of
them is what they said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.judger import Judge
from mica_ray.dialogue.progress import judge_stop
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.rewards import zone_distance
from mica_ray.types import Judgement, Scenario, State, Status, Stop

_PERSONA = "Someone who writes to the service."


@dataclass(frozen=True, slots=True)
class NeedEstimator:
    """Consumes a conversation that ends with a reply, produces its judgement; waits for the judge alone."""

    judge: Judge
    domain: Domain
    deadline_seconds: float = 30.0
    """For one judgement, whatever the judge's own deadline is."""

    def __post_init__(self) -> None:
        """Refuse a wait without an end."""
        if not self.deadline_seconds > 0:
            raise ValueError(f"deadline_seconds must be > 0; got {self.deadline_seconds}")

    @property
    def start(self) -> State:
        """Give P_0, points: the mean initial state of the domain's scenarios, in whole points."""
        states = [scenario.initial_state for scenario in self.domain.scenarios]
        c, a, p = np.round(np.mean(states, axis=0)).tolist()
        return c, a, p

    async def score_reply(self, dialogue: Sequence[SpokenTurn], *, state: State, seed: int) -> Judgement:
        """Judge the last reply. A judge that fails in any way gives a judgement without a score.

        Args:
            dialogue: oldest first; the last entry has the reply to judge.
            state: P_{t-1}, points: the last one known.
            seed: makes the judgement reproducible.
        """
        try:
            async with asyncio.timeout(self.deadline_seconds):
                return await self.judge.score(
                    self._person(dialogue[0]["user"]), tuple(dialogue), state=state, seed=seed
                )
        except TimeoutError:
            reason = f"the judge took more than {self.deadline_seconds:g} s"
            return Judgement.failed(Status.TIMED_OUT, reason)
        except Exception as error:  # A judge may be anyone's class, and a reply must not fail with it.
            return Judgement.failed(Status.ABANDONED, f"the judge failed: {type(error).__name__}")

    def progress(self, states: Sequence[State]) -> Stop | None:
        """Say what the rules of training make of a path; None while it is open.

        Args:
            states: P_0 first; a turn whose judgement failed repeats the state before it.
        """
        return judge_stop(np.asarray(states), self.domain.rules)

    def _person(self, opening: str) -> Scenario:
        """Make the scenario of someone of whom nothing is known but the first message."""
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
    """Give P_t = P_{t-1} + v_t; P_{t-1} where the judge gave no score."""
    if judgement.delta is None:
        return state
    c, a, p = (before + change for before, change in zip(state, judgement.delta, strict=True))
    return c, a, p


def distance_left(state: State) -> float:
    """Give how far a state is from the zone in which needs count as met, points."""
    return float(zone_distance(np.asarray(state)))
