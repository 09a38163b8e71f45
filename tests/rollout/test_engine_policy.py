"""The policy over an engine: context limits, prefixes, seeds, and what the ledger counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from mica_ray.chat.ledger import POLICY, Ledger
from mica_ray.dialogue.play import DialogueStart, Policy, TextPolicy
from mica_ray.dialogue.prefix import Prefix
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.collect import RolloutConfig, collect, play_all
from mica_ray.rollout.engine_policy import EnginePolicy
from mica_ray.seeding import derive_seed
from mica_ray.types import Generation, Sampling, Stop, Trajectory
from tests.dialogue.tiny_domain import QueuedChat
from tests.rollout.counting_dialogue import CONFIG, CountingEnvironment, SpellingEngine, scenario
from tests.small_policy import small_tokenizer


@pytest.fixture(scope="module")
def template() -> ChatTemplate:
    return ChatTemplate(small_tokenizer())


async def play(policy: Policy, config: RolloutConfig) -> list[Trajectory]:
    return await collect(
        [scenario("a")],
        lambda who, seed: CountingEnvironment(who, seed),
        policy,
        config,
        step=1,
        seed=7,
        policy_prompt="Be kind.",
    )


async def test_ledger_counts_the_policy_s_calls_tokens_and_seconds(template: ChatTemplate) -> None:
    ledger = Ledger()
    policy = EnginePolicy(SpellingEngine(delay=0.05), template, 500, ledger)
    (trajectory,) = await play(policy, RolloutConfig(1, Sampling(max_tokens=8), 500))
    spent = ledger.totals()[POLICY]
    prompts = [len(turn.generation.prompt_ids) for turn in trajectory.turns if turn.generation]
    # Three turns of three tokens each, each after a wait of 0.05 s.
    assert (spent.calls, spent.failed_calls, spent.completion_tokens) == (3, 0, 9)
    assert spent.prompt_tokens == sum(prompts)
    assert 0.15 <= spent.seconds < 5


async def test_ledger_counts_late_and_failed_replies_as_failed_calls(template: ChatTemplate) -> None:
    for engine in (SpellingEngine(delay=5), SpellingEngine(fails=True)):
        ledger = Ledger()
        config = RolloutConfig(1, Sampling(max_tokens=8), 500, generate_deadline_seconds=0.05)
        await play(EnginePolicy(engine, template, 500, ledger), config)
        spent = ledger.totals()[POLICY]
        assert (spent.calls, spent.failed_calls, spent.completion_tokens) == (1, 1, 0)
        # The late one was waited for until its deadline of 0.05 s, the failing one not at all.
        assert (spent.seconds >= 0.05) == (engine.delay > 0)


async def test_dialogue_that_no_longer_fits_ends_at_the_limit(template: ChatTemplate) -> None:
    first = len(
        template.prompt(
            [{"role": "system", "content": "Be kind."}, {"role": "user", "content": scenario("a").opening}]
        )
    )
    # Room for the first reply of up to 8 tokens, and not for the second one after a longer prompt.
    config = RolloutConfig(group_size=1, sampling=Sampling(max_tokens=8), context_length=first + 8)
    (trajectory,) = await play(EnginePolicy(SpellingEngine(), template, config.context_length), config)
    assert (trajectory.stop, len(trajectory.turns)) == (Stop.LIMIT, 1)


async def test_first_prompt_that_does_not_fit_says_so(template: ChatTemplate) -> None:
    config = RolloutConfig(group_size=1, sampling=Sampling(max_tokens=8), context_length=9)
    (trajectory,) = await play(EnginePolicy(SpellingEngine(), template, config.context_length), config)
    assert trajectory.stop is Stop.FAILED
    assert "no room for a reply of 8 in a context of 9. Raise rollout.context_length" in str(trajectory.error)


def start_after_one_turn(seed: int = 3) -> DialogueStart:
    prefix = Prefix((("Hello from a.", "First reply."),), ((-3.0, 0.0, 0.0), (-2.0, 0.0, 0.0)), "Turn 1.")
    return DialogueStart(scenario("a"), seed, sample=7, begun=prefix)


async def play_from(start: DialogueStart, policy: Policy, config: RolloutConfig) -> Trajectory:
    (trajectory,) = await play_all(
        [start],
        lambda start: CountingEnvironment(start.scenario, start.seed, turns=2),
        policy,
        config,
        policy_prompt="Be kind.",
    )
    return trajectory


async def test_dialogue_continues_after_a_prefix(template: ChatTemplate) -> None:
    engine = SpellingEngine()
    trajectory = await play_from(start_after_one_turn(), EnginePolicy(engine, template, 500), CONFIG)
    assert [turn.index for turn in trajectory.turns] == [1, 2]
    assert (trajectory.sample, trajectory.scenario.initial_state) == (7, (-2.0, 0.0, 0.0))
    # Replies are numbered from the start, not from the opening.
    assert engine.seeds == [derive_seed(3, "policy", turn) for turn in (0, 1)]
    first = trajectory.turns[0].generation
    assert first is not None
    assert "First reply." in template.text(first.prompt_ids)


async def test_prefix_that_fills_the_context_ends_at_the_limit_without_turns(template: ChatTemplate) -> None:
    trajectory = await play_from(
        start_after_one_turn(), EnginePolicy(SpellingEngine(), template, 9), RolloutConfig(context_length=65)
    )
    assert (trajectory.stop, trajectory.turns) == (Stop.LIMIT, ())


async def test_text_policy_samples_under_the_seeds_of_an_engine(template: ChatTemplate) -> None:
    engine, chat = SpellingEngine(), QueuedChat("I hear you.")
    await play(EnginePolicy(engine, template, 500), CONFIG)
    await play(TextPolicy(chat), CONFIG)
    assert sorted(asked.sampling.seed or 0 for asked in chat.asked) == sorted(s or 0 for s in engine.seeds)


class BrokenNumbers(SpellingEngine):
    """An engine that returns a log probability that is no number, in one reply of a dialogue."""

    def __init__(self, wrong: float, *, in_reply: int = 1) -> None:
        super().__init__()
        self._wrong, self._in_reply = wrong, in_reply

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        generation = await super().generate(prompt_ids, sampling)
        if len(self.seeds) - 1 != self._in_reply:
            return generation
        return replace(generation, logprobs=(*generation.logprobs[:-1], self._wrong))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
async def test_reply_without_a_finite_log_probability_is_a_failed_generation(
    template: ChatTemplate, wrong: float
) -> None:
    ledger = Ledger()
    policy = EnginePolicy(BrokenNumbers(wrong), template, 500, ledger)
    (trajectory,) = await play(policy, RolloutConfig(1, Sampling(max_tokens=8), 500))
    assert trajectory.stop is Stop.FAILED
    assert f"log probability of {wrong} for token 2" in str(trajectory.error)
    # The turn before it was played and stays; the reply is not part of the record, so nothing trains on it.
    assert len(trajectory.turns) == 1
    assert (ledger.totals()[POLICY].calls, ledger.totals()[POLICY].failed_calls) == (2, 1)
