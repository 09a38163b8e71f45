"""Judge chosen turns again after their dialogue has ended, and average the judgements.

Which turns is not decided here: launch/assembly.py chooses those nearest to a tie among siblings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mica_ray.chat.ledger import DialogueKey, dialogue_costs
from mica_ray.checks import at_least, within
from mica_ray.dialogue.judger import CarefulJudge, Judge
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.seeding import derive_seed
from mica_ray.types import Judgement, State, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class RepeatConfig:
    """How many turns are judged again, and how often. The judge's cost grows by fraction x repeats."""

    fraction: float = 0.5
    """Share of the judged turns of a step, those nearest to a tie among siblings first, in [0, 1]."""
    repeats: int = 2
    """Further judgements of each of these turns; the mean of all its judgements counts."""
    max_concurrent: int = 64
    """Largest number of judgements that wait for the judge at once."""

    def __post_init__(self) -> None:
        """Check share and counts."""
        within(0, 1, fraction=self.fraction)
        at_least(1, repeats=self.repeats, max_concurrent=self.max_concurrent)


@dataclass(frozen=True, slots=True)
class Repeated:
    """Trajectories with averaged judgements."""

    trajectories: tuple[Trajectory, ...]
    num_asked: int
    """Further judgements asked for."""
    num_failed: int
    """Those without a score; they are left out of the mean."""


async def repeat_judgements(
    trajectories: Sequence[Trajectory],
    chosen: np.ndarray,
    judge: Judge,
    config: RepeatConfig,
    *,
    step: int,
    seed: int,
) -> Repeated:
    """Judge the chosen turns again.

        v_t = mean of the first and every further valid judgement,   P_t = P_{t-1} + v_t

    The judge sees what it saw first, with the state of that time. The dialogue keeps its end, although other
    judgements might have ended it elsewhere. Levels and evidence remain those of the first judgement.

    Args:
        trajectories: B trajectories from their opening.
        chosen: [B, T] bool, column t for the turn with index t; turns without a score are skipped.
        judge: scores the replies.
        config: how often.
        step: of the loop; part of the seeds.
        seed: of the run.

    Raises:
        ValueError: `chosen` has another number of rows.
    """
    if len(chosen) != len(trajectories):
        raise ValueError(f"chosen must have {len(trajectories)} rows, got {len(chosen)}.")
    permits, careful = asyncio.Semaphore(config.max_concurrent), CarefulJudge(judge)
    places = [
        (row, position)
        for row, trajectory in enumerate(trajectories)
        for position, turn in enumerate(trajectory.turns)
        if turn.judgement.is_valid and chosen[row, turn.index]
    ]

    async def ask(row: int, position: int, number: int) -> Judgement:
        case = trajectories[row]
        key = DialogueKey(step, case.scenario.id, case.sample)
        index = case.turns[position].index
        names = (seed, "judge again", step, case.scenario.id, case.sample, index, number)
        with dialogue_costs(key):
            async with permits:
                return await _score(careful, case, position, seed=derive_seed(*names))

    answers = await asyncio.gather(
        *(ask(row, position, number) for row, position in places for number in range(config.repeats))
    )
    again: dict[int, dict[int, Sequence[Judgement]]] = {}
    for at, (row, position) in enumerate(places):
        again.setdefault(row, {})[position] = answers[at * config.repeats : (at + 1) * config.repeats]
    return Repeated(
        tuple(_averaged(trajectory, again.get(row, {})) for row, trajectory in enumerate(trajectories)),
        num_asked=len(answers),
        num_failed=sum(not answer.is_valid for answer in answers),
    )


async def _score(judge: Judge, case: Trajectory, position: int, *, seed: int) -> Judgement:
    """Judge one turn as it was judged first."""
    before = case.turns[position - 1].state_after if position else case.scenario.initial_state
    spoken: list[SpokenTurn] = [
        {"user": each.user, "reply": each.reply} for each in case.turns[: position + 1]
    ]
    return await judge.score(case.scenario, spoken, state=before, seed=seed)


def _averaged(trajectory: Trajectory, again: Mapping[int, Sequence[Judgement]]) -> Trajectory:
    """Return the trajectory with mean increments and the states that follow from them."""
    if not any(judgement.is_valid for further in again.values() for judgement in further):
        return trajectory
    state: State = trajectory.scenario.initial_state
    turns: list[Turn] = []
    for position, turn in enumerate(trajectory.turns):
        deltas = [
            judgement.delta
            for judgement in (turn.judgement, *again.get(position, ()))
            if turn.judgement.is_valid and judgement.delta is not None
        ]
        judgement = turn.judgement
        if deltas:
            c, a, p = (sum(axis) / len(deltas) for axis in zip(*deltas, strict=True))
            state = (state[0] + c, state[1] + a, state[2] + p)
            judgement = replace(judgement, delta=(c, a, p))
        turns.append(replace(turn, judgement=judgement, state_after=state))
    return replace(trajectory, turns=tuple(turns))
