"""Judge finished dialogues a second time, and compare the rewards under both judges.

alarm.py reads the gaps of the steps; auditor.py chooses when and how many dialogues.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.dialogue.judger import Judge
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.rewards import Rewards
from mica_ray.seeding import derive_seed
from mica_ray.training.audit.alarm import StepGap
from mica_ray.types import Judgement, Stop, Trajectory


def choose(
    trajectories: Sequence[Trajectory], count: int, *, generator: np.random.Generator
) -> list[Trajectory]:
    """Draw the dialogues to audit, from different scenarios as far as possible.

    Failed dialogues and those without a judged turn are left out.

    Args:
        trajectories: of a step.
        count: number of dialogues; fewer if the step has fewer.
        generator: of the audit only, so that the draws of the run do not change.
    """
    usable = [
        trajectory
        for trajectory in trajectories
        if trajectory.stop is not Stop.FAILED and any(turn.judgement.is_valid for turn in trajectory.turns)
    ]
    shuffled = [usable[index] for index in generator.permutation(len(usable))]
    seen = Counter[int]()
    ranks: list[int] = []
    for trajectory in shuffled:
        ranks.append(seen[trajectory.group])
        seen[trajectory.group] += 1
    order = sorted(range(len(shuffled)), key=ranks.__getitem__)
    return [shuffled[index] for index in order[:count]]


async def judge_again(judge: Judge, trajectory: Trajectory, *, seed: int) -> tuple[Judgement, ...]:
    """Return a judge's scores of every spoken turn of a finished dialogue, asked one after the other.

    The judge sees the same case as the training judge, with the need state of the training judge's path. So
    two judges that answer alike have equal distributions at every turn.

    Args:
        judge: the audit judge.
        trajectory: the dialogue.
        seed: turn t is judged with `derive_seed(seed, "judge", t)`.
    """
    dialogue: list[SpokenTurn] = []
    judgements: list[Judgement] = []
    for turn, (c, a, p) in zip(trajectory.turns, trajectory.states[:-1].tolist(), strict=True):
        if turn.is_silent:
            break  # The last turn, which nobody judged in training either.
        dialogue.append({"user": turn.user, "reply": turn.reply})
        judgement = await judge.score(
            trajectory.scenario,
            tuple(dialogue),
            state=(c, a, p),
            seed=derive_seed(seed, "judge", turn.index),
        )
        judgements.append(judgement)
    return tuple(judgements)


@dataclass(frozen=True, slots=True)
class DialogueGap:
    """Rewards of the turns of one dialogue that both judges scored; sums, reward units."""

    training: float
    audit: float
    num_turns: int
    """At least 1."""


def dialogue_gap(
    trajectory: Trajectory, judgements: Sequence[Judgement], rewards: Rewards
) -> DialogueGap | None:
    """Compare what both judges give for the same turns.

    Both rewards of a turn start from the same state, the one before it on the training judge's path. The
    training judge's scores decide when a dialogue ends, and its lucky ones end it early: rewards along the
    path of each judge, or means per dialogue, would differ between equal judges as soon as dialogues succeed.
    The sum of differences at common states has mean 0 then, whenever the dialogue ends (optional stopping).

    Args:
        trajectory: with the training judge's judgements.
        judgements: the audit judge's, of the first turns.
        rewards: of the run.

    Returns:
        None if no turn has a score from both.
    """
    training, audit = list[float](), list[float]()
    for turn, judgement, before in zip(trajectory.turns, judgements, trajectory.states, strict=False):
        if turn.judgement.delta is not None and judgement.delta is not None:
            for found, delta in ((training, turn.judgement.delta), (audit, judgement.delta)):
                found.append(float(rewards.of_path(np.stack([before, before + delta]))[0]))
    return DialogueGap(sum(training), sum(audit), len(training)) if training else None


def step_gap(step: int, gaps: Sequence[DialogueGap]) -> StepGap | None:
    """Return the gap per turn of a step and its standard error; None without a dialogue.

        gap = sum_i d_i / sum_i T_i,    error = sqrt(m / (m - 1) sum_i (d_i - gap T_i)^2) / sum_i T_i

    d_i is the difference of the sums of dialogue i, T_i its turns, m the number of dialogues: a ratio of
    means and its linearized error (Cochran 1977, Section 2.11).
    """
    if not gaps:
        return None
    turns = np.array([gap.num_turns for gap in gaps])
    differences = np.array([gap.training - gap.audit for gap in gaps])
    gap, count = float(differences.sum() / turns.sum()), len(gaps)
    if count == 1:
        return StepGap(step, gap, math.nan, 1)
    squares = float(((differences - gap * turns) ** 2).sum())
    return StepGap(step, gap, math.sqrt(count / (count - 1) * squares) / float(turns.sum()), count)
