"""The gap between two judges, on paths that can be computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mica_ray.dialogue.judger import CarefulJudge
from mica_ray.rewards import Rewards
from mica_ray.seeding import derive_seed
from mica_ray.training.audit.alarm import StepGap
from mica_ray.training.audit.gap import DialogueGap, choose, dialogue_gap, judge_again, step_gap
from mica_ray.types import Judgement, Stop
from tests.training.audit.two_judges import OUTAGE, ListJudge, scored, talked


def test_both_rewards_of_a_turn_start_from_the_training_judge_s_state() -> None:
    # The training judge's path: D = 10, 8, 4, so it gives 2 and 4. From the same states, the other gives
    # 10 - 9 = 1 and 8 - 8 = 0.
    assert dialogue_gap(talked("a", 2, 4), [scored(1), scored(0)], Rewards()) == DialogueGap(6.0, 1.0, 2)


def test_turn_without_a_score_of_one_judge_is_left_out_for_both() -> None:
    # Turn 0 fails under the training judge, turn 1 under the other: only turn 2 counts, 4 against 1.
    judgements = [scored(9), Judgement.failed(scored(0).status.INVALID, "late"), scored(1)]
    assert dialogue_gap(talked("a", None, 5, 4), judgements, Rewards()) == DialogueGap(4.0, 1.0, 1)
    assert dialogue_gap(talked("a", None, 9), judgements[:2], Rewards()) is None


def test_gap_uses_the_rewards_of_the_run() -> None:
    # adr: r = -D. -8 and -4 against -9 and -8.
    gap = dialogue_gap(talked("a", 2, 4), [scored(1), scored(0)], Rewards(kind="adr"))
    assert gap == DialogueGap(-12.0, -17.0, 2)


async def test_audit_judge_gets_the_same_case_as_the_training_judge() -> None:
    judge = ListJudge([1, None, 2])
    judgements = await judge_again(judge, talked("a", 5, None, 5), seed=7)
    # The states before the turns on the training judge's path: its second judgement failed.
    assert judge.asked == [
        ("reply 0", (-11.0, 0.0, 0.0), derive_seed(7, "judge", 0)),
        ("reply 1", (-6.0, 0.0, 0.0), derive_seed(7, "judge", 1)),
        ("reply 2", (-6.0, 0.0, 0.0), derive_seed(7, "judge", 2)),
    ]
    assert [judgement.is_valid for judgement in judgements] == [True, False, True]


def test_equal_judges_have_no_gap_although_one_of_them_ends_the_dialogues() -> None:
    # Both judges give 0 or 6 points at random; a dialogue ends once the training judge's D is 0. Along its
    # own path, the audit judge would lag behind in every dialogue that succeeds.
    generator = np.random.default_rng(0)
    gaps: list[DialogueGap] = []
    for _ in range(2000):
        points: list[float] = []
        while len(points) < 4 and -11 + sum(points) < -1:
            points.append(6.0 * generator.integers(2))
        audit = [scored(6.0 * generator.integers(2)) for _ in points]
        gap = dialogue_gap(talked("a", *points), audit, Rewards())
        assert gap is not None
        gaps.append(gap)
    found = step_gap(0, gaps)
    assert found is not None and abs(found.gap) < 3 * found.error and found.error < 0.1


async def test_silent_turn_is_not_judged_again() -> None:
    spoken = talked("a", 1, None)
    silent = replace(spoken, turns=(spoken.turns[0], replace(spoken.turns[1], reply="", is_silent=True)))
    judge = ListJudge([1])
    assert len(await judge_again(judge, silent, seed=0)) == len(judge.asked) == 1


async def test_exception_of_a_judge_is_a_failed_judgement() -> None:
    judgements = await judge_again(CarefulJudge(ListJudge([1, OUTAGE, 2])), talked("a", 1, 1, 1), seed=0)
    assert [judgement.error for judgement in judgements] == [None, "the endpoint is down", None]


def test_step_gap_is_a_ratio_of_sums_with_its_error() -> None:
    # Differences 1 and 5 in 1 and 2 turns: 6 / 3 = 2. Residuals 1 - 2 = -1 and 5 - 4 = 1, so the error is
    # sqrt(2 / 1 (1 + 1)) / 3 = 2 / 3.
    gaps = [DialogueGap(3, 2, 1), DialogueGap(7, 2, 2)]
    both = step_gap(4, gaps)
    assert both is not None and both.error == pytest.approx(2 / 3)
    assert replace(both, error=1.0) == StepGap(4, 2.0, 1.0, 2)
    alone = step_gap(4, gaps[1:])
    assert alone is not None and alone.gap == 2.5 and math.isnan(alone.error)
    assert step_gap(4, []) is None


def test_error_of_equally_long_dialogues_is_the_usual_one() -> None:
    # Differences per turn of 1 and 3: deviation sqrt(2), over sqrt(2) dialogues.
    found = step_gap(0, [DialogueGap(5, 0, 5), DialogueGap(15, 0, 5)])
    assert found is not None and found.gap == 2.0 and found.error == pytest.approx(1.0)


def test_sample_takes_different_scenarios_first_and_no_failed_dialogue() -> None:
    step = [talked(f"s{group}", 1, group=group, sample=sample) for group in range(3) for sample in range(4)]
    step[0] = replace(step[0], stop=Stop.FAILED)
    step.append(talked("unscored", None, group=3))
    for seed in range(20):
        chosen = choose(step, 4, generator=np.random.default_rng(seed))
        assert {trajectory.group for trajectory in chosen[:3]} == {0, 1, 2}
        assert step[0] not in chosen and len(chosen) == 4
    everything = choose(step, 99, generator=np.random.default_rng(0))
    assert len(everything) == 11


def test_sample_is_a_draw_and_not_the_first_dialogues() -> None:
    step = [talked("s", 1, sample=sample) for sample in range(4)]
    drawn = {choose(step, 1, generator=np.random.default_rng(seed))[0].sample for seed in range(40)}
    assert drawn == {0, 1, 2, 3}
