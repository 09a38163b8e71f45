"""Every domain of the package plays a dialogue from start to end with the scripted roles."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

import numpy as np
import pytest

import mica_ray.domains
from mica_ray.chat.model import ChatReply, JsonSchema
from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.director import Director
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.environment import DialogueEnvironment
from mica_ray.dialogue.judger import Judger
from mica_ray.dialogue.play import DialogueStart, TextPolicy, play_dialogue
from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.types import Message, Sampling, Scenario, Stop, Trajectory


def find_domains() -> list[Domain]:
    """Return every Domain in mica_ray/domains/*.py, so that a new file is tested as soon as it exists.

    Those that bring no scenarios, because the user supplies them, cannot be played here.
    """
    modules = [
        importlib.import_module(f"mica_ray.domains.{item.name}")
        for item in pkgutil.iter_modules(mica_ray.domains.__path__)
    ]
    found = {
        id(value): value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Domain) and value.scenarios
    }
    return sorted(found.values(), key=lambda domain: domain.name)


DOMAINS = find_domains()
each_domain = pytest.mark.parametrize("domain", DOMAINS, ids=[domain.name for domain in DOMAINS])


class Listener:
    """A text policy that always returns the same warm reply."""

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        return ChatReply(text="That sounds so heavy. I hear how much this hurts you.", model="listener")


async def play(domain: Domain, scenario: Scenario, seed: int) -> Trajectory:
    roles, sampling = ScriptedRoles(), Sampling(max_tokens=512)
    environment = DialogueEnvironment(
        scenario,
        domain,
        actor=Actor(roles, domain, sampling),
        judge=Judger(roles, domain, sampling),
        director=Director(roles, domain, sampling),
        seed=seed,
    )
    prompt = domain.prompts(scenario.language).policy_prompt
    return await play_dialogue(
        DialogueStart(scenario), environment, TextPolicy(Listener()), sampling, policy_prompt=prompt
    )


def test_the_three_domains_are_found() -> None:
    assert {"emotional_support", "customer_support", "tutoring"} <= {domain.name for domain in DOMAINS}


@each_domain
async def test_dialogue_ends_by_the_domain_rules(domain: Domain) -> None:
    trajectory = await play(domain, domain.scenarios[0], seed=1)
    assert trajectory.stop is not Stop.FAILED, trajectory.error
    assert 1 <= len(trajectory.turns) <= domain.rules.max_turns
    assert [turn.index for turn in trajectory.turns] == list(range(len(trajectory.turns)))


@each_domain
async def test_state_moves_by_the_judged_points(domain: Domain) -> None:
    trajectory = await play(domain, domain.scenarios[0], seed=2)
    assert all(turn.judgement.is_valid for turn in trajectory.turns)
    moves = np.array([turn.judgement.delta for turn in trajectory.turns])
    np.testing.assert_allclose(np.diff(trajectory.states, axis=0), moves)


@each_domain
async def test_equal_seeds_play_equal_dialogues(domain: Domain) -> None:
    scenario = domain.scenarios[-1]
    assert await play(domain, scenario, seed=3) == await play(domain, scenario, seed=3)


@each_domain
async def test_first_message_is_the_scenario_opening(domain: Domain) -> None:
    trajectory = await play(domain, domain.scenarios[0], seed=4)
    assert trajectory.turns[0].user == domain.scenarios[0].opening


@each_domain
def test_splits_share_no_scenario_and_ids_are_unique(domain: Domain) -> None:
    ids = [scenario.id for scenario in domain.scenarios]
    assert len(ids) == len(set(ids))
    assert domain.split("train") and domain.split("test")
    assert {scenario.domain for scenario in domain.scenarios} == {domain.name}


@each_domain
def test_axes_and_need_order_are_the_three_of_the_state(domain: Domain) -> None:
    assert [axis.key for axis in domain.axes] == ["C", "A", "P"]
    assert sorted(domain.need_order) == ["A", "C", "P"]
