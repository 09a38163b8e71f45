"""Role models of a run: shared, metered at their price, never trained."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from mica_ray.chat.ledger import Ledger, Price
from mica_ray.chat.openai_api import Endpoint
from mica_ray.config import ConfigError, Recording, RoleConfig, RunConfig
from mica_ray.config.overrides import override
from mica_ray.config.references import resolve
from mica_ray.dialogue.judger import Judger
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.launch.assembly import Parts, measure
from mica_ray.launch.cost_estimate import describe_costs, estimate_costs
from mica_ray.launch.plan import gpus_wanted
from mica_ray.launch.start_engines import start_policy, start_role_model
from mica_ray.launch.start_world import evaluation_world, start_world
from mica_ray.launch.world import build_world, check_roles, role_price
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.training.local_learner import LocalLearner
from mica_ray.training.loop import LoopConfig
from mica_ray.training.progress import SilentProgress
from mica_ray.training.update import LearnerConfig
from mica_ray.types import Message, Sampling
from tests.chat.local_endpoint import Answer, LocalEndpoint
from tests.config.own_roles import QuestionJudge
from tests.dialogue.tiny_domain import DOMAIN
from tests.rollout.judged_step import PhraseEngine
from tests.small_policy import small_folder, small_tokenizer
from tests.tiny_policy import random_batch

ENDPOINT = Endpoint("judge", price_per_million_prompt_tokens=2.0, price_per_million_completion_tokens=10.0)
MESSAGES: list[Message] = [{"role": "user", "content": "Hello."}]


async def test_roles_on_the_policy_s_own_model_share_an_engine_that_is_never_updated(tmp_path: Path) -> None:
    model = small_folder(tmp_path / "model", tied=True)
    config = override(
        RunConfig(),
        [*(f"roles.{role}=vllm:{model}" for role in ("actor", "director", "judge")),
         "roles.engine.dtype=float32", "roles.engine.max_model_len=300", "roles.max_tokens=8",
         "rollout.sampling.max_tokens=8", "rollout.context_length=300"],
    )  # fmt: skip
    assert config.roles.served_models == (str(model),)
    template = ChatTemplate.from_folder(model)
    policy = await start_policy(config, model, template, inline=True)
    chat, engine = await start_role_model(config, str(model), inline=True)
    world = build_world(
        config.roles, EMOTIONAL_SUPPORT, environment={}, served={str(model): chat}.__getitem__
    )
    assert world.actor.model is world.director.model is chat
    prompt, sampling = template.prompt(MESSAGES), Sampling(temperature=0.0, max_tokens=8, seed=1)
    before = await engine.generate(prompt, sampling)
    assert await policy.generate(prompt, sampling) == before
    learner = LocalLearner(model, LearnerConfig(learning_rate=1e-2, total_updates=4))
    learner.update(random_batch(0))
    await policy.load_weights(learner.weights())
    assert (await policy.generate(prompt, sampling)).logprobs != before.logprobs
    assert await engine.generate(prompt, sampling) == before


def test_price_is_the_endpoint_s_and_a_replay_is_free(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "calls", "record", inner=ENDPOINT)
    assert role_price(ENDPOINT) == role_price(recording) == Price(2.0, 10.0)
    assert role_price(replace(recording, mode="replay")) == role_price("scripted") == Price()


async def test_endpoint_takes_a_call_of_every_dialogue_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLES_KEY", "key")
    async with LocalEndpoint(Answer("yes", after_seconds=0.1)) as server, AsyncExitStack() as stack:
        roles = RoleConfig(judge=Endpoint("m", base_url=server.url, api_key_env="ROLES_KEY"))
        config = RunConfig(roles=roles, loop=LoopConfig(scenarios_per_step=9))
        world, _ = await start_world(stack, config, EMOTIONAL_SUPPORT, inline=True, ledger=Ledger())
        judge = world.judge
        assert isinstance(judge, Judger)
        # 9 scenarios x 4 dialogues.
        calls = (judge.model.chat(MESSAGES, Sampling(seed=seed)) for seed in range(60))
        await asyncio.gather(*calls)
    assert server.most_in_flight == 36


async def test_every_role_s_calls_reach_the_ledger() -> None:
    ledger = Ledger()
    world = build_world(RoleConfig(), EMOTIONAL_SUPPORT, environment={}, served={}.__getitem__, ledger=ledger)
    dialogue = world.environment(world.scenarios("test")[0], 0)
    await dialogue.open()
    exchange = await dialogue.respond("That sounds hard. What hurts most?")
    assert {role: tally.calls for role, tally in ledger.totals().items()} == {
        "judge": 1,
        "director": 1,
        "actor": 1,
    }
    plain = build_world(RoleConfig(), EMOTIONAL_SUPPORT, environment={}, served={}.__getitem__)
    same = plain.environment(plain.scenarios("test")[0], 0)
    await same.open()
    assert await same.respond("That sounds hard. What hurts most?") == exchange


def test_estimate_follows_from_its_assumptions() -> None:
    config = override(
        RunConfig(roles=RoleConfig(judge=ENDPOINT)),
        ["loop.num_steps=2", "loop.scenarios_per_step=3", "rollout.group_size=4", "learner.mini_batches=1",
         "evaluation.samples=1"],
    )  # fmt: skip
    costs = estimate_costs(config, DOMAIN)
    # (2 x 3 x 4 training dialogues + twice the one test scenario) x 4 turns
    assert {tally.calls for tally in costs.values()} == {104}
    assert (costs["judge"].completion_tokens, costs["actor"].completion_tokens) == (104 * 700, 104 * 60)
    judge = costs["judge"]
    assert judge.usd == pytest.approx((2 * judge.prompt_tokens + 10 * 104 * 700) / 1e6)
    assert costs["actor"].usd == 0
    # Half of the 2 x 3 x 4 x 4 = 96 training turns are judged three times more: 144 judgements.
    again = override(config, ['repeat_judging={"fraction": 0.5, "repeats": 3}'])
    repeated = estimate_costs(again, DOMAIN)
    assert {role: tally.calls for role, tally in repeated.items()} == {
        "actor": 104,
        "director": 104,
        "judge": 248,
    }


def test_estimate_counts_evaluations_under_their_own_roles_and_rules() -> None:
    config = override(
        RunConfig(evaluation_roles=RoleConfig(judge=ENDPOINT, max_tokens=500)),
        ["loop.num_steps=2", "loop.scenarios_per_step=3", "rollout.group_size=4", "learner.mini_batches=1",
         "evaluation.samples=1", 'evaluation.rules={"max_turns": 10}'],
    )  # fmt: skip
    judge = estimate_costs(config, DOMAIN)["judge"]
    # 2 x 3 x 4 training dialogues x 4 turns by scripted roles; twice the one test scenario x 10 turns.
    assert (judge.calls, judge.completion_tokens) == (96 + 20, 96 * 700 + 20 * 500)
    longer = estimate_costs(override(config, ["loop.num_steps=4"]), DOMAIN)["judge"]
    trained = longer.prompt_tokens - judge.prompt_tokens  # Of the two further steps, as of the first two.
    # Only the evaluations have a price, per million: 2 USD for their prompts, 10 USD for 20 x 500 tokens.
    assert judge.usd == pytest.approx(2 * (judge.prompt_tokens - trained) / 1e6 + 0.1)
    assert "4 turns per dialogue and 10 in evaluations" in describe_costs(config, DOMAIN)


def test_evaluations_have_the_roles_and_rules_of_the_config() -> None:
    world = build_world(RoleConfig(), EMOTIONAL_SUPPORT, environment={}, served={}.__getitem__)
    ledger = Ledger()
    assert evaluation_world(RunConfig(), world, ledger=ledger) is None
    short = override(RunConfig(), ['evaluation.rules={"max_turns": 2}'])
    found = evaluation_world(short, world, ledger=ledger)
    assert found is not None
    assert (found.domain.rules.max_turns, world.domain.rules.max_turns) == (2, 12)
    assert found.judge is world.judge
    own = RunConfig(evaluation_roles=RoleConfig(judge=QuestionJudge()))
    found = evaluation_world(own, world, ledger=ledger)
    assert found is not None
    assert (found.judge, found.domain) == (QuestionJudge(), world.domain)


async def test_evaluation_is_played_in_its_own_world() -> None:
    config = override(
        RunConfig(evaluation_roles=RoleConfig(judge=QuestionJudge())),
        ['evaluation.rules={"max_turns": 2}', "evaluation.max_scenarios=2", "evaluation.samples=1",
         "rollout.context_length=4096"],
    )  # fmt: skip
    ledger = Ledger()
    world = build_world(config.roles, EMOTIONAL_SUPPORT, environment={}, served={}.__getitem__)
    template = ChatTemplate(small_tokenizer())
    own = evaluation_world(config, world, ledger=ledger)
    parts = Parts(world, template, PhraseEngine(), None, ledger, own)
    evaluation = await measure(config, parts, SilentProgress())
    assert [len(dialogue.turns) for dialogue in evaluation.dialogues] == [2, 2]
    deltas = {turn.judgement.delta for dialogue in evaluation.dialogues for turn in dialogue.turns}
    # Points of that judge: one on C for a question, none without.
    assert deltas <= {(1.0, 0.0, 0.0), (0.0, 0.0, 0.0)}


def test_key_of_an_evaluation_role_is_checked_before_anything_starts() -> None:
    roles = RoleConfig(judge=ENDPOINT)
    with pytest.raises(ConfigError, match=r"evaluation_roles\.judge: .*OPENAI_API_KEY"):
        check_roles(roles, {}, key="evaluation_roles")


@pytest.mark.parametrize("judge", ["qwen", "minimax", "glm"])
def test_judge_recipe_shares_one_model_and_its_address_comes_from_the_user(judge: str) -> None:
    place = f"{Path(__file__).parents[2]}/experiments/swap_judge.py"
    recipes = [resolve(f"{place}:{judge}_{kind}") for kind in ("endpoint", "served")]
    asked, engines = (recipe() for recipe in recipes if callable(recipe))
    assert isinstance(asked, RunConfig) and isinstance(engines, RunConfig)
    config = override(asked, [f"roles.{role}.base_url=http://judge/v1" for role in ("actor", "judge")])
    assert isinstance(config.roles.judge, Endpoint)
    assert (config.roles.judge.base_url, config.roles.judge) == ("http://judge/v1", config.roles.actor)
    assert len(engines.roles.served_models) == 1
    assert engines.roles.served_models[0] == config.roles.judge.model
    # 4 engines and 4 learner workers of the policy, 8 engines of the judge.
    assert gpus_wanted(engines) == 16
