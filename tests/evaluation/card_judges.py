"""A judge of cards for screening tests, named in a config by module:CLASS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.types import Judgement, Scenario, State, Status


@dataclass(frozen=True, slots=True)
class CardJudge:
    """Scores every reply +3 on each axis, and -4, -5, -5 for the cards of `hard`.

    With +3 a card succeeds at turn 12, with -5 it collapses there.
    """

    hard: str = ""
    """Ids of cards, with commas between them."""
    lost: str = ""
    """Ids of cards that it cannot judge while the file `outage` exists, apart from their first reply."""
    outage: str = ""

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        if scenario.id in self.lost.split(",") and Path(self.outage).exists() and len(dialogue) > 1:
            return Judgement.failed(Status.TIMED_OUT, "no answer within 60 s")
        if scenario.id in self.hard.split(","):
            return Judgement(progress=(0, 0, 0), regress=(-2, -2, -2), delta=(-4.0, -5.0, -5.0))
        return Judgement(progress=(2, 2, 2), regress=(0, 0, 0), delta=(3.0, 3.0, 3.0))
