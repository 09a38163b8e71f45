"""One collected step of the embedded world with a judge behind HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mica_ray.chat.model import ChatReply, JsonSchema
from mica_ray.chat.openai_api import Endpoint, OpenAIChat
from mica_ray.dialogue.actor import Actor
from mica_ray.dialogue.director import Director
from mica_ray.dialogue.environment import DialogueEnvironment, Environment
from mica_ray.dialogue.judger import Judger
from mica_ray.dialogue.progress import ProgressRules
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.collect import RolloutConfig, collect
from mica_ray.rollout.engine_policy import EnginePolicy
from mica_ray.types import Generation, Message, PolicyWeights, Sampling, Scenario, Trajectory
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


@dataclass(frozen=True)
class PhraseEngine:
    """Replies with a phrase chosen by the seed."""

    latency_seconds: float = 0.0

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        await asyncio.sleep(self.latency_seconds)
        chosen = random.Random(sampling.seed).randrange(len(PHRASES))
        return Generation(tuple(prompt_ids), (20 + chosen, 2), (-1.0, -1.0), PHRASES[chosen], "stop", 0)

    async def load_weights(self, weights: PolicyWeights) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class SlowRoles:
    """Scripted roles with a latency."""

    latency_seconds: float = 0.0

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        await asyncio.sleep(self.latency_seconds)
        return await ScriptedRoles().chat(messages, sampling, schema)


async def judged_step(
    judge: FaultyJudge,
    endpoint: Endpoint,
    *,
    num_scenarios: int,
    group_size: int,
    deadline_seconds: float,
    latency_seconds: float = 0.0,
    max_turns: int = 5,
) -> list[Trajectory]:
    """Collect a step with the judge on a local server; `endpoint` gets its address.

    The policy, Actor and Director each take `latency_seconds`.
    """
    scripted = SlowRoles(latency_seconds)
    domain = replace(EMOTIONAL_SUPPORT, rules=ProgressRules(max_turns=max_turns, check_from=3))
    sampling = Sampling(temperature=0.0, max_tokens=1024)
    async with LocalEndpoint(respond=judge) as server:
        model = OpenAIChat(replace(endpoint, base_url=server.url), "key")

        def environment(scenario: Scenario, seed: int) -> Environment:
            return DialogueEnvironment(
                scenario,
                domain,
                actor=Actor(scripted, domain, sampling),
                judge=Judger(model, domain, sampling, deadline_seconds),
                director=Director(scripted, domain, sampling),
                seed=seed,
            )

        trajectories = await collect(
            domain.split("train")[:num_scenarios],
            environment,
            EnginePolicy(PhraseEngine(latency_seconds), ChatTemplate(small_tokenizer()), 100_000),
            RolloutConfig(group_size=group_size, sampling=Sampling(max_tokens=8), context_length=100_000),
            step=0,
            seed=0,
            policy_prompt="",
        )
        await model.close()
    return trajectories
