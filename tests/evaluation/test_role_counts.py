"""A failed dialogue is counted for the role that ended it."""

from __future__ import annotations

import pytest

from mica_ray.chat.model import ChatError
from mica_ray.dialogue.actor import Actor
from mica_ray.evaluation.role_counts import RoleCount, with_failures
from mica_ray.types import Judgement, RoleAnswer, Sampling, Status, Stop, Trajectory, Turn
from tests.dialogue.tiny_domain import DOMAIN, SCENARIO, QueuedChat


def failed(*answers: RoleAnswer, error: str) -> Trajectory:
    judgement = Judgement(progress=(1, 0, 0), regress=(0, 0, 0), delta=(1.0, 0.0, 0.0))
    turn = Turn(0, "Hello.", "Hi.", judgement, (0.0, 0.0, 0.0), answers=answers)
    return Trajectory(SCENARIO, group=0, sample=0, turns=(turn,), stop=Stop.FAILED, error=error)


def counts_of(dialogue: Trajectory) -> dict[str, int]:
    counts = {role: RoleCount() for role in ("actor", "director", "judge", "policy")}
    return {role: count.failed for role, count in with_failures([dialogue], counts).items() if count.failed}


def test_silent_actor_is_not_a_failure_of_the_policy() -> None:
    silent = RoleAnswer("actor", Status.INVALID, "no usable message")
    assert counts_of(failed(silent, error="no user message")) == {"actor": 1}
    assert counts_of(failed(RoleAnswer("actor", Status.OK), error="the engine died")) == {"policy": 1}


async def test_actor_that_cannot_open_the_dialogue_is_recognized_by_its_own_error() -> None:
    actor = Actor(QueuedChat(""), DOMAIN, Sampling(), most_drafts=2)
    with pytest.raises(ChatError) as raised:
        await actor.open(SCENARIO, seed=0)
    ended = Trajectory(SCENARIO, group=0, sample=0, turns=(), stop=Stop.FAILED, error=str(raised.value))
    assert counts_of(ended) == {"actor": 1}


def test_evidence_that_the_judge_made_up_is_counted() -> None:
    judgement = Judgement((1, 0, 0), (0, 0, 0), (1.0, 0.0, 0.0), unfound_evidence=2)
    turns = (Turn(0, "Hello.", "Hi.", judgement, (0.0, 0.0, 0.0)),) * 3
    counts = with_failures(
        [Trajectory(SCENARIO, group=0, sample=0, turns=turns, stop=Stop.LIMIT)],
        {role: RoleCount() for role in ("actor", "director", "judge", "policy")},
    )
    assert {role: count.unfound_evidence for role, count in counts.items() if count.unfound_evidence} == {
        "judge": 6
    }
