"""A fifth of a judge's answers is lost over HTTP: no hang, no invented score."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from mica_ray.chat.openai_api import Endpoint
from mica_ray.credit import Mica
from mica_ray.dialogue.answer_counts import count_answers, count_failures
from mica_ray.rewards import Rewards
from mica_ray.types import Status, Stop, Trajectory, TurnRewards
from tests.chat.fault_proxy import FAULTS, FaultyJudge
from tests.rollout.judged_step import judged_step
from tests.small_policy import small_tokenizer

NUM_SCENARIOS, GROUP_SIZE = 6, 2

# Two attempts, so that some judgements are lost for good. Three seconds are far above the judge's own time
# even on a loaded machine, where a late answer would be one more loss than the proxy knows of.
ENDPOINT = Endpoint(
    model="judge",
    timeout_seconds=3.0,
    deadline_seconds=20.0,
    attempts=2,
    first_pause_seconds=0.01,
    longest_pause_seconds=0.02,
)


@dataclass(frozen=True)
class Step:
    """A collected step and its rewards."""

    judge: FaultyJudge
    trajectories: Sequence[Trajectory]

    @property
    def rewards(self) -> TurnRewards:
        return Rewards()(self.trajectories)

    def advantages(self, group: int) -> np.ndarray:
        rows = [row for row, trajectory in enumerate(self.trajectories) if trajectory.group == group]
        return Mica()(self.rewards)[rows]

    def lost_turns(self, group: int | None = None) -> int:
        return sum(
            not turn.judgement.is_valid
            for trajectory in self.trajectories
            if group is None or trajectory.group == group
            for turn in trajectory.turns
        )


async def step(fault_fraction: float) -> Step:
    judge = FaultyJudge(fault_fraction, seed=3)
    trajectories = await judged_step(
        judge, ENDPOINT, num_scenarios=NUM_SCENARIOS, group_size=GROUP_SIZE, deadline_seconds=60.0
    )
    return Step(judge, trajectories)


@pytest.fixture(scope="module")
def steps() -> tuple[Step, Step]:
    """The clean step and the same step with a faulty judge. A hang fails here, at the deadline."""

    async def play() -> tuple[Step, Step]:
        async with asyncio.timeout(240):
            return await step(0.0), await step(0.2)

    small_tokenizer()  # Import before the first answers, which it would delay.
    return asyncio.run(play())


def test_lost_turns_are_counted_exactly(steps: tuple[Step, Step]) -> None:
    clean, faulty = steps
    # Every fault must have happened, otherwise the tests of this file prove less than they claim.
    assert set(faulty.judge.faults) == set(FAULTS)
    assert clean.lost_turns() == clean.judge.num_lost == 0
    assert faulty.lost_turns() == faulty.judge.num_lost > 0


def test_lost_turns_are_told_apart_by_what_failed(steps: tuple[Step, Step]) -> None:
    clean, faulty = steps
    counts = count_answers(faulty.trajectories)
    judged = {status: count for (role, status), count in counts.items() if role == "judge"}
    kinds = Counter[str]()
    for status, count in judged.items():
        kinds[status.failure_kind or "none"] += count
    assert (
        kinds["data"] + kinds["infrastructure"] == faulty.lost_turns() == count_failures(faulty.trajectories)
    )
    # Every judgement and no other is counted, and the faulty step needed retries or repairs for some.
    turns = sum(len(trajectory.turns) for trajectory in faulty.trajectories)
    assert kinds.total() == turns
    assert judged[Status.RETRIED] > 0 and judged[Status.REPAIRED] > 0
    assert set(count_answers(clean.trajectories)) == {
        (role, Status.OK) for role in ("judge", "director", "actor")
    }


def test_nothing_takes_the_place_of_a_lost_judgement(steps: tuple[Step, Step]) -> None:
    _, faulty = steps
    for row, trajectory in enumerate(faulty.trajectories):
        assert trajectory.stop is not Stop.FAILED
        for index, turn in enumerate(trajectory.turns):
            is_lost = not turn.judgement.is_valid
            assert faulty.rewards.valid[row, index] == (not is_lost)
            if is_lost:
                before = (
                    trajectory.turns[index - 1].state_after if index else trajectory.scenario.initial_state
                )
                assert turn.state_after == before
                assert turn.judgement.error
                assert Mica()(faulty.rewards)[row, index] == 0.0


def test_groups_without_a_lost_turn_have_the_clean_run_s_advantages_to_the_bit(
    steps: tuple[Step, Step],
) -> None:
    clean, faulty = steps
    untouched = [group for group in range(NUM_SCENARIOS) if faulty.lost_turns(group) == 0]
    assert 0 < len(untouched) < NUM_SCENARIOS
    for group in untouched:
        np.testing.assert_array_equal(faulty.advantages(group), clean.advantages(group))
        assert np.abs(clean.advantages(group)).max() > 0
