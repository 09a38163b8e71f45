"""Warm-up dialogues: the policy of the grammar plays in the embedded world.

Replies: embedded/grammar.py; scenarios: embedded/retellings.py; training: embedded/policy.py.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.director import Director
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.environment import DialogueEnvironment
from mica_ray.dialogue.judger import Judger
from mica_ray.dialogue.play import DialogueStart, TextPolicy, play_dialogue
from mica_ray.embedded import grammar, retellings
from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.embedded.world import start
from mica_ray.seeding import derive_seed
from mica_ray.types import AXES, Message, Sampling, Scenario, Trajectory


def warm_up_dialogues(
    domain: Domain, *, seed: int, num_dialogues: int, num_turns: Sequence[int]
) -> list[list[Message]]:
    """Play dialogues of the grammar's policy, half of them in retold scenarios.

    Only training scenarios are retold: the warm-up uses no validation or test scenario.

    Args:
        domain: source of prompts, rules and training scenarios.
        seed: seed of every draw.
        num_dialogues: number of dialogues.
        num_turns: maximum turns of the dialogues, in rotation.
    """
    rng = random.Random(derive_seed(seed, "warm-up"))
    roles, domain = ScriptedRoles(), replace(domain, shows_needs=True)
    own = warm_up_stories(domain)
    sampling = Sampling(max_tokens=128)

    async def play(number: int) -> list[Message]:
        if own and number % 2 == 0:
            scenario = retellings.retold(rng.choice(own), f"retold-{number:05d}", rng)
        else:
            scenario = retellings.scenario(number, domain.name, rng)
        scenario = retellings.started_late(scenario, rng)
        rules = replace(domain.rules, max_turns=num_turns[number % len(num_turns)])
        short = replace(domain, rules=rules)
        environment = DialogueEnvironment(
            scenario,
            short,
            actor=Actor(roles, domain, sampling),
            judge=Judger(roles, domain, sampling),
            director=Director(roles, domain, sampling),
            seed=derive_seed(seed, "warm-up", number),
        )
        policy = grammar.GrammarPolicy(
            scenario.topic,
            start(scenario.initial_state, [AXES.index(key) for key in domain.need_order]),
            seed=derive_seed(seed, "grammar", number),
        )
        trajectory = await play_dialogue(
            DialogueStart(scenario),
            environment,
            TextPolicy(policy),
            sampling,
            policy_prompt=domain.prompts(scenario.language).policy_prompt,
        )
        return _messages(domain, trajectory)

    async def play_all() -> list[list[Message]]:
        return [await play(number) for number in range(num_dialogues)]

    return asyncio.run(play_all())


def warm_up_stories(domain: Domain) -> tuple[Scenario, ...]:
    """Return the training scenarios that can be retold: with a topic and three stages."""
    return tuple(story for story in domain.split("train") if story.topic and len(story.stages) >= 3)


def naming_drills(domain: Domain, *, seed: int, num_drills: int, num_topics: int) -> list[list[Message]]:
    """Return exchanges in which the user lists topics and the policy repeats them in order.

    Every word of such a reply is copied from the user. Dialogues have few copied words: a model trained on
    them only spends most of its time on learning to copy.

    Args:
        domain: source of the policy prompt.
        seed: seed of every draw.
        num_drills: number of exchanges.
        num_topics: topics per list.
    """
    rng = random.Random(derive_seed(seed, "naming"))

    def drill() -> list[Message]:
        topics = [retellings.draw_topic(rng) for _ in range(num_topics)]
        return [
            {"role": "system", "content": domain.policy_prompt},
            {"role": "user", "content": f"{', '.join(topics)}."},
            {"role": "assistant", "content": f"{', '.join(map(grammar.as_helper_names, topics))}."},
        ]

    return [drill() for _ in range(num_drills)]


def _messages(domain: Domain, trajectory: Trajectory) -> list[Message]:
    """Return a dialogue as the policy sees it."""
    messages: list[Message] = [{"role": "system", "content": domain.policy_prompt}]
    for turn in trajectory.turns:
        messages.append({"role": "user", "content": turn.user})
        messages.append({"role": "assistant", "content": turn.reply})
    return messages
