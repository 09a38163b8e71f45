"""One collected step of the embedded world whose judge is behind HTTP; the policy picks phrases by seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mica_ray.chat.model import ChatModel
from mica_ray.chat.openai_api import Endpoint, OpenAIChat
from mica_ray.chat.scripted import ScriptedRoles
from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.director import Director
from mica_ray.dialogue.environment import DialogueEnvironment, Environment
from mica_ray.dialogue.judger import Judger
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.collect import RolloutConfig, collect
from mica_ray.types import Generation, PolicyWeights, Sampling, Scenario, Trajectory
from tests.chat.fault_proxy import FaultyJudge
from tests.chat.local_endpoint import LocalEndpoint
from tests.small_policy import small_tokenizer

PHRASES = (
    "That sounds painful.",
    "No wonder you are worn out.",
    "What hurts most about it?",
    "Maybe it is less about blame and more about timing.",
    "One small step could be a short walk today.",
    "You should just get over it.",
    "I see.",
)
DOMAIN = replace(EMOTIONAL_SUPPORT, rules=ProgressRules(max_turns=5, check_from=3))


@dataclass(frozen=True)
class PhraseEngine:
    """Says a phrase that the seed picks."""

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        chosen = random.Random(sampling.seed).randrange(len(PHRASES))
        return Generation(tuple(prompt_ids), (20 + chosen, 2), (-1.0, -1.0), PHRASES[chosen], "stop", 0)

    async def load_weights(self, weights: PolicyWeights) -> None: ...

    async def close(self) -> None: ...


async def judged_step(
    judge: FaultyJudge, endpoint: Endpoint, *, num_scenarios: int, group_size: int, deadline_seconds: float
) -> list[Trajectory]:
    """Collect a step against the judge's own server on this machine; `endpoint` gets its address."""
    scripted = ScriptedRoles()
    sampling = Sampling(temperature=0.0, max_tokens=1024)
    async with LocalEndpoint(respond=judge) as server:
        model = OpenAIChat(replace(endpoint, base_url=server.url), "key")

        def environment(scenario: Scenario, seed: int) -> Environment:
            return _environment(scenario, model, scripted, sampling, seed, deadline_seconds)

        trajectories = await collect(
            DOMAIN.split("train")[:num_scenarios],
            environment,
            PhraseEngine(),
            ChatTemplate(small_tokenizer()),
            RolloutConfig(group_size=group_size, sampling=Sampling(max_tokens=8), context_length=100_000),
            step=0,
            seed=0,
            policy_prompt="",
        )
        await model.close()
    return trajectories


def _environment(
    scenario: Scenario,
    judge: ChatModel,
    scripted: ChatModel,
    sampling: Sampling,
    seed: int,
    deadline_seconds: float,
) -> Environment:
    return DialogueEnvironment(
        scenario,
        DOMAIN,
        actor=Actor(scripted, DOMAIN, sampling),
        judge=Judger(judge, DOMAIN, sampling, deadline_seconds),
        director=Director(scripted, DOMAIN, sampling),
        seed=seed,
    )
