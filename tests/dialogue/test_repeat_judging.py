"""Judging chosen turns again: means, states that follow, failures, and what the judge sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from mica_ray.dialogue.repeat_judging import RepeatConfig, repeat_judgements
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.types import Judgement, Scenario, State, Status, Stop, Trajectory, Turn

EXAM = Scenario(
    id="exam",
    domain="tiny",
    category="school",
    dominant_axis="A",
    persona="A student.",
    opening="I failed.",
    initial_state=(-9.0, -9.0, -9.0),
    stages=(),
    split="train",
)


def judged(points: float) -> Judgement:
    return Judgement(progress=(1, 1, 1), regress=(0, 0, 0), delta=(points, points, points))


LOST = Judgement.failed(Status.INVALID, "not JSON")


def dialogue(*judgements: Judgement, sample: int = 0) -> Trajectory:
    turns: list[Turn] = []
    level = -9.0
    for index, judgement in enumerate(judgements):
        level += judgement.delta[0] if judgement.delta else 0.0
        turns.append(Turn(index, f"user {index}", f"reply {index}", judgement, (level, level, level)))
    return Trajectory(EXAM, group=0, sample=sample, turns=tuple(turns), stop=Stop.LIMIT)


@dataclass
class ListedJudge:
    """A judge that gives listed judgements, whatever it is asked, and remembers the questions."""

    answers: list[Judgement | Exception]
    asked: list[tuple[int, State, int]] = field(default_factory=list)

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        self.asked.append((len(dialogue), state, seed))
        answer = self.answers[len(self.asked) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


ONE = RepeatConfig(repeats=1)


async def test_mean_of_judgements_moves_all_later_states() -> None:
    # First 1, again 3: mean 2. The next turn keeps its own 1, so the states are -7 and -6.
    played = dialogue(judged(1.0), judged(1.0))
    judge = ListedJudge([judged(3.0)])
    outcome = await repeat_judgements([played], np.array([[True, False]]), judge, ONE, step=0, seed=0)
    (after,) = outcome.trajectories
    assert [turn.judgement.delta for turn in after.turns] == [(2.0,) * 3, (1.0,) * 3]
    assert after.states[:, 0].tolist() == [-9.0, -7.0, -6.0]
    assert (outcome.num_asked, outcome.num_failed) == (1, 0)
    # The levels are those of the first judgement.
    assert after.turns[0].judgement.progress == (1, 1, 1)


async def test_judge_sees_what_it_saw_first() -> None:
    played = dialogue(judged(1.0), judged(1.0), judged(1.0))
    judge = ListedJudge([judged(4.0)] * 4)
    config = RepeatConfig(repeats=2)
    await repeat_judgements([played], np.array([[True, True, False]]), judge, config, step=3, seed=0)
    assert [(length, state[0]) for length, state, _ in judge.asked] == [(1, -9), (1, -9), (2, -8), (2, -8)]
    assert len({seed for *_, seed in judge.asked}) == 4


async def test_failed_repeats_leave_the_first_judgement_and_are_counted() -> None:
    played = dialogue(judged(1.0), judged(2.0))
    judge = ListedJudge([LOST, RuntimeError("endpoint down"), judged(5.0), LOST])
    config = RepeatConfig(repeats=2)
    outcome = await repeat_judgements([played], np.ones((1, 2), bool), judge, config, step=0, seed=0)
    deltas = [turn.judgement.delta for turn in outcome.trajectories[0].turns]
    assert deltas == [(1.0,) * 3, (3.5,) * 3]  # 1 as before; (2 + 5) / 2
    assert (outcome.num_asked, outcome.num_failed) == (4, 3)


async def test_turn_without_a_score_is_not_asked_about() -> None:
    played = dialogue(judged(1.0), LOST, judged(1.0))
    judge = ListedJudge([judged(3.0), judged(1.0)])
    outcome = await repeat_judgements([played], np.ones((1, 3), bool), judge, ONE, step=0, seed=0)
    after = outcome.trajectories[0]
    assert [length for length, *_ in judge.asked] == [1, 3]
    assert after.turns[1].judgement == LOST
    assert after.states[:, 0].tolist() == [-9.0, -7.0, -7.0, -6.0]


async def test_nothing_chosen_changes_nothing() -> None:
    played = [dialogue(judged(1.0)), dialogue(judged(2.0), sample=1)]
    outcome = await repeat_judgements(
        played, np.zeros((2, 1), bool), ListedJudge([]), RepeatConfig(), step=0, seed=0
    )
    assert outcome.trajectories == tuple(played)
    assert outcome.num_asked == 0


async def test_turns_are_found_by_their_index() -> None:
    played = dialogue(judged(1.0))
    late = replace(played, turns=(replace(played.turns[0], index=2),))
    judge = ListedJudge([judged(3.0)])
    chosen = np.array([[False, False, True]])
    outcome = await repeat_judgements([late], chosen, judge, ONE, step=0, seed=0)
    assert outcome.trajectories[0].turns[0].judgement.delta == (2.0,) * 3


async def test_rows_must_match_the_trajectories() -> None:
    with pytest.raises(ValueError, match="1 rows, got 2"):
        await repeat_judgements(
            [dialogue(judged(1.0))], np.ones((2, 1), bool), ListedJudge([]), ONE, step=0, seed=0
        )


@pytest.mark.parametrize(
    "wrong", [{"fraction": 1.1}, {"fraction": -0.1}, {"repeats": 0}, {"max_concurrent": 0}]
)
def test_impossible_repeats_are_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        RepeatConfig(**wrong)  # pyright: ignore[reportArgumentType]
