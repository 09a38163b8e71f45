"""Every sentence of the grammar reads as what it was written for; the mixture of them is a weak supporter."""

from __future__ import annotations

import random

import pytest

from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.embedded.grammar import (
    WARM_UP_MIX,
    GrammarPolicy,
    kinds,
    sentence,
)
from mica_ray.embedded.reply_reader import Harm, Kind, read_reply
from mica_ray.embedded.world import start
from mica_ray.types import Message, Sampling
from tests.embedded.embedded_talk import NEED_ORDER, TESTS, mean_reward, pass_fraction, talk_with

NUM_DRAWS = 300
"""Of each kind: the rarest of its dozen lines then has less than one chance in a thousand to go unread."""

TOPICS = (
    *(one.topic for one in EMOTIONAL_SUPPORT.scenarios[::9]),
    "my sister's wedding",
    "his old photos",
)


@pytest.mark.parametrize("kind", kinds())
def test_every_sentence_reads_as_its_kind_and_no_other(kind: str) -> None:
    rng = random.Random(0)
    for _ in range(NUM_DRAWS):
        topic = rng.choice(TOPICS)
        line = sentence(kind, topic, rng)
        reading = read_reply(line, heard=[f"It is about {topic}."], earlier=[])
        # What offers nothing and names nothing of the person is ignorant besides.
        marks = {*reading.kinds, *reading.harms} - ({Harm.IGNORE} if kind not in set(Kind) else set())
        assert marks == {kind}, line


def test_a_sentence_names_the_topic_from_the_other_side() -> None:
    lines = {sentence("explore", "my exam", random.Random(seed)) for seed in range(60)}
    assert any("your exam" in line for line in lines)
    assert not any("my exam" in line for line in lines)
    assert all(line[0].isupper() for line in lines)


@pytest.mark.parametrize("kind", kinds())
def test_line_is_not_said_again_until_all_were_said(kind: str) -> None:
    rng, said = random.Random(1), list[str]()
    lines = set[str]()
    for _ in range(40):
        line = sentence(kind, "the exam", rng, said=said)
        is_new = Harm.REPEAT not in read_reply(line, heard=[], earlier=said).harms
        if not is_new:
            break
        said.append(line)
        lines.add(line)
    # Five steps are the fewest; some lines never name the topic and come by chance, so not all are drawn.
    assert len(lines) >= 5


def test_mixture_is_a_distribution_over_all_kinds() -> None:
    assert tuple(WARM_UP_MIX) == kinds()
    assert sum(WARM_UP_MIX.values()) == pytest.approx(1.0)
    assert min(WARM_UP_MIX.values()) > 0


async def test_mixture_does_harm_and_rarely_passes() -> None:
    trajectories = [
        await talk_with(GrammarPolicy(one.topic, start(one.initial_state, NEED_ORDER), seed=seed), one)
        for seed in range(2)
        for one in TESTS
    ]
    assert mean_reward(trajectories) < 0
    assert pass_fraction(trajectories) <= 0.1


async def test_policy_is_a_pure_function_of_seed_and_conversation() -> None:
    messages: list[Message] = [{"role": "user", "content": "It is about my exam."}]
    person = start((-4.0, -4.0, -4.0), NEED_ORDER)
    policies = [GrammarPolicy("my exam", person, seed=seed) for seed in (1, 1, 2, 3, 4)]
    replies = [(await policy.chat(messages, Sampling())).text for policy in policies]
    assert replies[0] == replies[1]
    assert len(set(replies)) > 1
