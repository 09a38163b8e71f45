"""Stories of the grammar name their topic; our own can be told about another and stay the same otherwise."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.embedded.reply_reader import content_words
from mica_ray.embedded.retellings import draw_topic, retold, scenario, with_retellings


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
        told = retold(story, f"told-{number}", random.Random(number))
        assert told.id == f"told-{number}"
        assert story.topic not in " ".join((told.opening, *told.stages)).lower()
        assert told.topic.lower() in told.opening.lower()
        assert (told.initial_state, told.persona, told.split) == (story.initial_state, story.persona, "train")


def test_topics_are_too_many_to_know_by_heart() -> None:
    rng = random.Random(0)
    assert len({draw_topic(rng) for _ in range(1000)}) > 700


def test_retellings_add_training_scenarios_alone() -> None:
    own = EMOTIONAL_SUPPORT.scenarios
    told = with_retellings(own, 3, seed=0)
    assert told[: len(own)] == own
    added = told[len(own) :]
    assert len(added) == 3 * len(EMOTIONAL_SUPPORT.split("train")) == len({one.id for one in added})
    assert {one.split for one in added} == {"train"}
    assert told == with_retellings(own, 3, seed=0) != with_retellings(own, 3, seed=1)
    assert with_retellings(own, 0, seed=0) == own


def test_story_without_a_topic_is_not_told_again() -> None:
    bare = [replace(one, topic="") for one in EMOTIONAL_SUPPORT.split("train")]
    assert with_retellings(bare, 3, seed=0) == tuple(bare)
