"""Collection: no barrier between turns, failures as data, seeds that depend only on names."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from mica_ray.dialogue.environment import Environment
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.collect import RolloutConfig, collect
from mica_ray.rollout.engine import PolicyEngine
from mica_ray.rollout.engine_policy import EnginePolicy
from mica_ray.rollout.local_engine import LocalEngine
from mica_ray.types import Sampling, Scenario, Stop, Trajectory
from tests.rollout.counting_dialogue import CONFIG, CountingEnvironment, SpellingEngine, scenario
from tests.small_policy import small_model, small_tokenizer


@pytest.fixture(scope="module")
def template() -> ChatTemplate:
    return ChatTemplate(small_tokenizer())


async def play(
    template: ChatTemplate,
    engine: PolicyEngine,
    names: str = "ab",
    config: RolloutConfig = CONFIG,
    *,
    turns: int = 3,
    gate: asyncio.Event | None = None,
    error: str | None = None,
) -> list[Trajectory]:
    def environment(who: Scenario, seed: int) -> Environment:
        return CountingEnvironment(who, seed, turns, gate=gate, error=error)

    scenarios = [scenario(name) for name in names]
    return await collect(
        scenarios,
        environment,
        EnginePolicy(engine, template, config.context_length),
        config,
        step=1,
        seed=7,
        policy_prompt="Be kind.",
    )


async def test_dialogues_come_by_group_and_sample(template: ChatTemplate) -> None:
    trajectories = await play(template, SpellingEngine())
    assert [(t.scenario.id, t.group, t.sample) for t in trajectories] == [
        ("a", 0, 0),
        ("a", 0, 1),
        ("b", 1, 0),
        ("b", 1, 1),
    ]
    for trajectory in trajectories:
        assert trajectory.stop is Stop.SUCCESS
        assert [turn.index for turn in trajectory.turns] == [0, 1, 2]
        # The Director's words belong to the user message they led to.
        assert [turn.guidance for turn in trajectory.turns] == [None, "guide 1", "guide 2"]
        assert [turn.user for turn in trajectory.turns] == [trajectory.scenario.opening, "Turn 1.", "Turn 2."]
        assert trajectory.turns[-1].state_after == (0.0, 0.0, 0.0)


async def test_every_prompt_holds_all_tokens_sampled_before(template: ChatTemplate) -> None:
    config = RolloutConfig(group_size=1, sampling=Sampling(max_tokens=8), context_length=500)
    engine = LocalEngine(small_model(tied=True), template)
    (trajectory,) = await play(template, engine, "a", config, turns=10)
    generations = [turn.generation for turn in trajectory.turns if turn.generation is not None]
    assert len(generations) == 10
    for earlier, later in pairwise(generations):
        sampled = earlier.prompt_ids + earlier.token_ids
        assert later.prompt_ids[: len(sampled)] == sampled


async def test_slow_dialogue_does_not_hold_up_the_others(template: ChatTemplate) -> None:
    # Dialogue "a" waits for a gate that opens only once every dialogue of "b" is over. With a barrier between
    # turns this would never end.
    gate, ended = asyncio.Event(), []

    def environment(who: Scenario, seed: int) -> Environment:
        return CountingEnvironment(who, seed, gate=gate if who.id == "a" else None)

    def progress(trajectory: Trajectory) -> None:
        ended.append(trajectory.scenario.id)
        if ended.count("b") == 2:
            gate.set()

    async with asyncio.timeout(20):
        await collect(
            [scenario("a"), scenario("b")],
            environment,
            EnginePolicy(SpellingEngine(), template, CONFIG.context_length),
            CONFIG,
            step=0,
            seed=0,
            policy_prompt="",
            progress=progress,
        )
    assert ended == ["b", "b", "a", "a"]


async def test_broken_dialogue_is_failed_and_keeps_its_turns(template: ChatTemplate) -> None:
    def environment(who: Scenario, seed: int) -> Environment:
        return CountingEnvironment(who, seed, breaks_at=2 if who.id == "a" else None)

    broken, whole = await collect(
        [scenario("a"), scenario("b")],
        environment,
        EnginePolicy(SpellingEngine(), template, 1024),
        RolloutConfig(group_size=1, sampling=Sampling(max_tokens=8)),
        step=0,
        seed=0,
        policy_prompt="",
    )
    assert (broken.stop, broken.error, len(broken.turns)) == (
        Stop.FAILED,
        "RuntimeError: the user fell silent",
        1,
    )
    assert (whole.stop, whole.error, len(whole.turns)) == (Stop.SUCCESS, None, 3)


async def test_failure_told_by_the_environment_keeps_its_reason(template: ChatTemplate) -> None:
    trajectories = await play(template, SpellingEngine(), error="the actor gave no answer")
    assert {(t.stop, t.error) for t in trajectories} == {(Stop.FAILED, "the actor gave no answer")}


async def test_failures_of_the_director_are_counted_and_survived(template: ChatTemplate) -> None:
    def environment(who: Scenario, seed: int) -> Environment:
        return CountingEnvironment(who, seed, turns=4, undirected=(1, 3) if who.id == "a" else ())

    config = RolloutConfig(group_size=1, sampling=Sampling(max_tokens=8))
    trajectories = await collect(
        [scenario("a"), scenario("b")], environment, EnginePolicy(SpellingEngine(), template, 1024), config,
        step=0, seed=0, policy_prompt="",
    )  # fmt: skip
    assert [(t.stop, t.error, t.director_failures) for t in trajectories] == [
        (Stop.SUCCESS, None, 2),
        (Stop.SUCCESS, None, 0),
    ]


async def test_dead_engine_makes_failed_dialogues(template: ChatTemplate) -> None:
    trajectories = await play(template, SpellingEngine(fails=True))
    assert [(t.stop, t.error) for t in trajectories] == [(Stop.FAILED, "EngineError: engine 0 died")] * 4


async def test_seeds_depend_on_names_and_not_on_company_or_timing(template: ChatTemplate) -> None:
    def tokens(trajectories: list[Trajectory]) -> dict[tuple[str, int], list[tuple[int, ...]]]:
        return {
            (t.scenario.id, t.sample): [turn.generation.token_ids for turn in t.turns if turn.generation]
            for t in trajectories
        }

    together = tokens(await play(template, SpellingEngine(), "abc"))
    reversed_ = tokens(await play(template, SpellingEngine(delay=0.001), "cba"))
    alone = tokens(await play(template, SpellingEngine(), "b"))
    one_by_one = tokens(
        await play(
            template,
            SpellingEngine(),
            "abc",
            RolloutConfig(2, CONFIG.sampling, 500, max_concurrent_dialogues=1),
        )
    )
    assert together == reversed_ == one_by_one
    assert all(together[key] == alone[key] for key in alone)
    assert together["a", 0] != together["a", 1]


async def test_each_reply_has_its_own_seed(template: ChatTemplate) -> None:
    engine = SpellingEngine()
    await play(template, engine)
    assert len(set(engine.seeds)) == 2 * 2 * 3


async def test_dialogue_is_routed_by_its_number(template: ChatTemplate) -> None:
    engine = SpellingEngine()
    await play(template, engine)
    assert engine.routed == [0, 1, 2, 3]


async def test_late_reply_fails_its_dialogue_only(template: ChatTemplate) -> None:
    config = RolloutConfig(1, Sampling(max_tokens=8), 500, generate_deadline_seconds=0.02)
    (trajectory,) = await play(template, SpellingEngine(delay=5), "a", config)
    assert trajectory.stop is Stop.FAILED
    assert "The policy did not reply within 0.02 s." in str(trajectory.error)


async def test_endless_dialogue_fails_at_its_deadline(template: ChatTemplate) -> None:
    config = RolloutConfig(1, Sampling(max_tokens=8), 500, dialogue_deadline_seconds=0.05)
    (trajectory,) = await play(template, SpellingEngine(), "a", config, gate=asyncio.Event())
    assert trajectory.stop is Stop.FAILED
    assert "The dialogue took more than 0.05 s." in str(trajectory.error)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_size": 0}, "group_size must be >= 1, got 0"),
        ({"dialogue_deadline_seconds": 0}, "dialogue_deadline_seconds must be > 0, got 0"),
        ({"context_length": 64}, "context_length must be > sampling.max_tokens = 64, got 64"),
    ],
)
def test_impossible_config_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RolloutConfig(**settings)
