"""An evaluation plays every scenario with its own seeds, at the configured temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from mica_ray.dialogue.environment import Environment, Exchange
from mica_ray.evaluation.evaluate import EvaluationConfig, evaluate
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.collect import RolloutConfig
from mica_ray.rollout.engine_policy import EnginePolicy
from mica_ray.types import Generation, Judgement, Message, PolicyWeights, Sampling, Scenario, Stop
from tests.small_policy import small_tokenizer

WHO = Scenario("a", "test", "none", "C", "Someone.", "Hello.", (-3.0, 0.0, 0.0), (), "test")


@dataclass
class NotingEngine:
    """Always returns the same reply, and records how it was asked to sample."""

    asked: list[Sampling] = field(default_factory=list[Sampling])

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        self.asked.append(sampling)
        return Generation(tuple(prompt_ids), (20, 2), (-1.0, -1.0), "Yes.", "stop", 0)

    async def load_weights(self, weights: PolicyWeights) -> None: ...

    async def close(self) -> None: ...


class OneTurn:
    """A user who is satisfied with any reply."""

    async def open(self) -> Message:
        return {"role": "user", "content": WHO.opening}

    async def respond(self, reply: str) -> Exchange:
        judgement = Judgement((2, 0, 0), (0, 0, 0), (3.0, 0.0, 0.0))
        return Exchange(judgement, (0.0, 0.0, 0.0), None, Stop.SUCCESS)


@pytest.mark.parametrize(("temperature", "sampled"), [(None, 1.0), (0.7, 0.7), (0.0, 0.0)])
async def test_replies_are_sampled_at_the_temperature_of_the_evaluation(
    temperature: float | None, sampled: float
) -> None:
    def environment(who: Scenario, seed: int) -> Environment:
        return OneTurn()

    engine = NotingEngine()
    evaluation = await evaluate(
        EnginePolicy(engine, ChatTemplate(small_tokenizer()), 500),
        environment,
        [WHO],
        config=EvaluationConfig(samples=3, temperature=temperature),
        rollout=RolloutConfig(group_size=2, sampling=Sampling(max_tokens=8), context_length=500),
        policy_prompt="Be kind.",
    )
    assert [sampling.temperature for sampling in engine.asked] == [sampled] * 3
    assert {sampling.max_tokens for sampling in engine.asked} == {8}
    assert len({sampling.seed for sampling in engine.asked}) == 3
    assert evaluation.pass_fraction.estimate == 1.0
