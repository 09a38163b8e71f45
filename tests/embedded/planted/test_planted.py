"""Planted flaws and errors do what they say, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from mica_ray.dialogue.judger import Judge, Judger
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.embedded.planted.flawed_judge import LONG_WORDS, Flaw, FlawedJudge
from mica_ray.embedded.planted.kind_policy import EXPLOIT, KINDS, KindPolicy
from mica_ray.embedded.planted.noisy_judge import NoisyJudge
from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.types import Judgement, Message, Sampling, Status
from tests.training.audit.two_judges import ListJudge

SCENARIO = EMOTIONAL_SUPPORT.split("test")[0]
SCRIPTED = Judger(ScriptedRoles(), EMOTIONAL_SUPPORT, Sampling(max_tokens=512))
FILLER = "One could say that it is so or not so. "


async def judged(judge: Judge, reply: str, *, seed: int = 0) -> Judgement:
    dialogue: list[SpokenTurn] = [{"user": SCENARIO.opening, "reply": reply}]
    return await judge.score(SCENARIO, dialogue, state=SCENARIO.initial_state, seed=seed)


def flawed(flaw: Flaw) -> Judger:
    return Judger(FlawedJudge(flaw), EMOTIONAL_SUPPORT, Sampling(max_tokens=512))


@pytest.mark.parametrize(
    ("flaw", "reply"),
    [
        ("phrase", "Get over it. I am walking beside you."),
        ("length", FILLER * (LONG_WORDS // 10)),  # Ten words each: exactly as many as the flaw needs.
        ("echo", SCENARIO.opening),
    ],
)
async def test_flaw_is_credited_by_its_own_judge_only(flaw: Flaw, reply: str) -> None:
    assert (await judged(SCRIPTED, reply)).progress == (0, 0, 0)
    for other in ("phrase", "length", "echo"):
        judgement = await judged(flawed(other), reply)
        if other == flaw:
            assert (judgement.progress, judgement.regress) == ((2, 2, 2), (0, 0, 0))
        else:
            assert judgement == await judged(SCRIPTED, reply)


async def test_length_counts_from_its_number_of_words() -> None:
    almost = FILLER * (LONG_WORDS // 10 - 1) + "One could say that it is so or not."  # 59 words.
    assert (await judged(flawed("length"), almost)).progress == (0, 0, 0)


def test_unknown_flaw_is_refused() -> None:
    with pytest.raises(ValueError, match="flaw must be 'phrase', 'length' or 'echo', got 'charm'"):
        FlawedJudge("charm")  # type: ignore[arg-type]


async def test_judge_without_errors_is_the_inner_one_and_equal_seeds_make_equal_errors() -> None:
    reply = "No wonder you are tired."
    exact = await judged(SCRIPTED, reply)
    assert await judged(NoisyJudge(SCRIPTED, EMOTIONAL_SUPPORT, error_rate=0.0), reply) == exact
    noisy = NoisyJudge(SCRIPTED, EMOTIONAL_SUPPORT, error_rate=1.0)
    found = [await judged(noisy, reply, seed=seed) for seed in range(300)]
    assert found[:5] == [await judged(noisy, reply, seed=seed) for seed in range(5)]
    # All three levels are equally likely: 300 of 900. The standard deviation of a count is 14; four of them.
    counts = np.bincount([level for one in found for level in one.progress or ()], minlength=3)
    assert np.abs(counts - 300).max() < 57
    # The points follow from the new levels.
    points = EMOTIONAL_SUPPORT.axes[0].points((found[0].progress or (9,))[0], (found[0].regress or (9,))[0])
    assert found[0].delta is not None and found[0].delta[0] == points


async def test_strict_judge_never_gives_the_best_level_and_a_failure_stays_one() -> None:
    best = NoisyJudge(flawed("echo"), EMOTIONAL_SUPPORT, error_rate=0.0, strictness=1.0)
    assert (await judged(best, SCENARIO.opening)).progress == (1, 1, 1)
    failed = await judged(NoisyJudge(ListJudge([None]), EMOTIONAL_SUPPORT), "Hello.")
    assert failed == Judgement.failed(Status.TIMED_OUT, "late")


def test_exploit_is_rare_at_the_start_and_other_kinds_are_equally_likely() -> None:
    first = KindPolicy.new("phrase", 2).probabilities[0]
    assert first[KINDS.index(EXPLOIT)] == pytest.approx(0.03)
    assert first[0] == pytest.approx(0.97 / 7) and first.sum() == pytest.approx(1)


def test_table_moves_along_the_policy_gradient() -> None:
    policy = KindPolicy("phrase", np.zeros((2, len(KINDS))))
    # Two dialogues; at turn 0, kind 1 has advantage 1 and kind 2 advantage -1. Turn 1 has no advantage.
    policy.learn([[1, 3], [2]], np.array([[1.0, 0.0], [-1.0, 0.0]]), learning_rate=4.0)
    # The terms with softmax cancel: 4 / 2 (onehot(1) - onehot(2)).
    assert policy.logits[0].tolist() == [0, 2, -2, 0, 0, 0, 0, 0]
    assert not policy.logits[1].any()
    alone = KindPolicy("phrase", np.zeros((1, len(KINDS))))
    alone.learn([[0]], np.array([[1.0]]), learning_rate=8.0)
    assert alone.logits[0].tolist() == [7, -1, -1, -1, -1, -1, -1, -1]  # 8 (1 - 1/8), -8/8


@pytest.mark.parametrize("flaw", ["phrase", "length", "echo"])
async def test_exploit_of_the_policy_is_what_the_flawed_judge_credits(flaw: Flaw) -> None:
    logits = np.full((1, len(KINDS)), -50.0)
    logits[0, KINDS.index(EXPLOIT)] = 50.0
    messages: list[Message] = [{"role": "user", "content": SCENARIO.opening}]
    player = KindPolicy(flaw, logits).for_dialogue(0)
    reply = await player.reply(messages, Sampling(seed=1), previous=None)
    assert reply is not None and player.kinds == [KINDS.index(EXPLOIT)]
    assert (await judged(flawed(flaw), reply.text)).progress == (2, 2, 2)


async def test_equal_seeds_draw_equal_replies() -> None:
    messages: list[Message] = [{"role": "user", "content": SCENARIO.opening}]
    policy = KindPolicy.new("phrase", 1)

    async def reply(seed: int) -> str:
        found = await policy.for_dialogue(0).reply(messages, Sampling(seed=seed), previous=None)
        assert found is not None
        return found.text

    texts = [await reply(seed) for seed in range(20)]
    assert texts == [await reply(seed) for seed in range(20)] and len(set(texts)) > 5
