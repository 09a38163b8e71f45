"""Every sentence of the grammar reads as what it was written for; the mixture of them is a weak supporter."""

from __future__ import annotations

import random

import pytest

from mica_ray.chat.scripted_world import start
from mica_ray.chat.support_reader import Harm, Kind, content_words, read_reply
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.rollout.support_grammar import (
    WARM_UP_MIX,
    GrammarPolicy,
    draw_topic,
    kinds,
    retold,
    scenario,
    sentence,
)
from mica_ray.types import Message, Sampling
from tests.chat.embedded_talk import NEED_ORDER, TESTS, mean_reward, pass_fraction, talk_with

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


@pytest.mark.parametrize("number", range(20))
def test_scenario_is_a_story_about_its_topic(number: int) -> None:
    story = scenario(number, "emotional_support", random.Random(number))
    assert story == scenario(number, "emotional_support", random.Random(number))
    assert all(story.topic in text.lower() for text in (story.opening, *story.stages))
    assert max(story.initial_state) < 0
    assert min(story.initial_state) == story.initial_state["CAP".index(story.dominant_axis)]
    assert content_words(story.topic)


def test_retold_story_is_about_something_else_and_otherwise_the_same() -> None:
    for number, story in enumerate(EMOTIONAL_SUPPORT.split("train")):
        told = retold(story, number, random.Random(number))
        assert story.topic not in " ".join((told.opening, *told.stages)).lower()
        assert told.topic.lower() in told.opening.lower()
        assert (told.initial_state, told.persona, told.split) == (story.initial_state, story.persona, "train")


def test_topics_are_too_many_to_know_by_heart() -> None:
    rng = random.Random(0)
    assert len({draw_topic(rng) for _ in range(1000)}) > 700
