"""A dialogue resumed from a recorded prefix continues as before, without repeating calls."""

from __future__ import annotations

import pytest

from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.director import Director
from mica_ray.dialogue.environment import DialogueEnvironment
from mica_ray.dialogue.judger import Judger
from mica_ray.dialogue.prefix import Prefix, find_told
from mica_ray.dialogue.trajectory_builder import Exchange, TrajectoryBuilder
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.types import Sampling, Scenario, State, Stop

REPLIES = (
    "I hear how heavy that is for you.",
    "What would you need right now?",
    "It makes sense that you are tired of it.",
    "You have carried this for a long time.",
    "What is the hardest part of it?",
)


def environment(scenario: Scenario, begun: Prefix | None = None) -> DialogueEnvironment:
    roles, sampling = ScriptedRoles(), Sampling()
    return DialogueEnvironment(
        scenario,
        EMOTIONAL_SUPPORT,
        actor=Actor(roles, EMOTIONAL_SUPPORT, sampling, 30),
        judge=Judger(roles, EMOTIONAL_SUPPORT, sampling, 30),
        director=Director(roles, EMOTIONAL_SUPPORT, sampling, 30),
        seed=5,
        begun=begun,
    )


async def test_dialogue_goes_on_as_it_did() -> None:
    scenario = EMOTIONAL_SUPPORT.split("train")[0]
    whole = environment(scenario)
    users = [(await whole.open())["content"]]
    exchanges: list[Exchange] = []
    for reply in REPLIES:
        exchanges.append(await whole.respond(reply))
        user = exchanges[-1].user
        assert user is not None
        users.append(user["content"])
    for cut in range(len(REPLIES)):
        states: list[State] = [
            scenario.initial_state,
            *(exchange.state_after for exchange in exchanges[:cut]),
        ]
        begun = Prefix(
            tuple(zip(users[:cut], REPLIES[:cut], strict=True)),
            tuple(states),
            users[cut],
            find_told(scenario.stages, users[1 : cut + 1]),
        )
        resumed = environment(scenario, begun)
        assert (await resumed.open())["content"] == users[cut]
        # Seeds count the turns of the whole dialogue, so what follows is the same to the last word.
        assert [await resumed.respond(reply) for reply in REPLIES[cut:]] == exchanges[cut:]


async def test_environment_from_a_prefix_is_opened_once() -> None:
    scenario = EMOTIONAL_SUPPORT.split("train")[0]
    resumed = environment(scenario, Prefix((("Hi.", "Hello."),), (scenario.initial_state,) * 2, "So."))
    await resumed.open()
    with pytest.raises(RuntimeError, match="already open"):
        await resumed.open()


def test_fragments_are_found_in_the_order_in_which_they_were_told() -> None:
    stages = ("I lost my job.", "My father is ill.")
    assert find_told(stages, ["Yes. I lost  my job.", "Hm.", "That lands. My father is ill."]) == (1, 2)
    assert find_told(stages, ["My father is ill.", "My father is ill.", "So I lost my job."]) == (2, 1)
    assert find_told(stages, ["My father is well."]) == ()


def test_record_of_a_continuation_keeps_counting_turns() -> None:
    scenario = EMOTIONAL_SUPPORT.split("train")[0]
    begun = Prefix((("Hi.", "Hello."),), (scenario.initial_state, (-1.0, -2.0, -3.0)), "So.")
    record = TrajectoryBuilder(scenario, policy_prompt="Be kind.", begun=begun)
    record.open({"role": "user", "content": "So."})
    assert [message["content"] for message in record.messages] == ["Be kind.", "Hi.", "Hello.", "So."]
    record.end(Stop.LIMIT)
    trajectory = record.trajectory()
    # What follows is measured from where the prefix ended.
    assert trajectory.states.tolist() == [[-1.0, -2.0, -3.0]]


def test_path_that_does_not_fit_the_turns_is_refused() -> None:
    with pytest.raises(ValueError, match=r"states must have 2 entries, .* got 1"):
        Prefix((("Hi.", "Hello."),), ((0.0, 0.0, 0.0),), "So.")
