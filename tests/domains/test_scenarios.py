"""What holds for the scenarios that the package brings along."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest

from mica_ray.dialogue.domain import Domain
from mica_ray.domains.customer_support import CUSTOMER_SUPPORT
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT, STORIES
from mica_ray.domains.stories.customers import CUSTOMERS
from mica_ray.domains.stories.learners import LEARNERS
from mica_ray.domains.stories.story import Story
from mica_ray.domains.tutoring import TUTORING
from mica_ray.types import Scenario

DOMAINS = (EMOTIONAL_SUPPORT, CUSTOMER_SUPPORT, TUTORING)
EVERY_STORY = (*STORIES, *CUSTOMERS, *LEARNERS)
every_domain = pytest.mark.parametrize("domain", DOMAINS, ids=lambda domain: domain.name)
every_story = pytest.mark.parametrize("story", EVERY_STORY, ids=lambda story: story.id)


def _texts(scenario: Scenario) -> tuple[str, ...]:
    return (scenario.persona, scenario.opening, *scenario.stages)


def test_emotional_support_has_five_scenarios_per_category_and_axis_split_by_number() -> None:
    categories = ("work", "study", "family", "love", "health", "loneliness")
    splits = {"01": "train", "02": "train", "03": "valid", "04": "test", "05": "test"}
    expected = {f"es-{c}-{a}-{n}": splits[n] for c in categories for a in "cap" for n in splits}
    assert {scenario.id: scenario.split for scenario in EMOTIONAL_SUPPORT.scenarios} == expected
    # 6 categories x 3 axes = 18 cells of 2 train, 1 valid and 2 test.
    assert [len(EMOTIONAL_SUPPORT.split(split)) for split in ("train", "valid", "test")] == [36, 18, 36]


@pytest.mark.parametrize("domain", [CUSTOMER_SUPPORT, TUTORING], ids=lambda domain: domain.name)
def test_further_domains_have_four_scenarios_per_axis(domain: Domain) -> None:
    assert Counter(scenario.dominant_axis for scenario in domain.scenarios) == {"C": 4, "A": 4, "P": 4}
    assert [len(domain.split(split)) for split in ("train", "valid", "test")] == [6, 2, 4]
    assert {scenario.dominant_axis for scenario in domain.split("train")} == {"C", "A", "P"}
    assert {scenario.dominant_axis for scenario in domain.split("test")} == {"C", "A", "P"}


@every_domain
def test_splits_are_disjoint_and_complete(domain: Domain) -> None:
    parts = list(chain.from_iterable(domain.split(split) for split in ("train", "valid", "test")))
    ids = [scenario.id for scenario in parts]
    assert len(ids) == len(set(ids))
    assert set(ids) == {scenario.id for scenario in domain.scenarios}


def test_no_text_stands_in_two_scenarios_of_any_domain() -> None:
    texts = [text.lower() for domain in DOMAINS for scenario in domain.scenarios for text in _texts(scenario)]
    assert [text for text, count in Counter(texts).items() if count > 1] == []


def test_no_topic_stands_in_the_words_of_another_story() -> None:
    # A topic of a test story that a training story mentions would be known to the policy.
    words = {story.id: " ".join(_texts(story.scenario("any"))[1:]).lower() for story in EVERY_STORY}
    shared = [
        (story.id, other)
        for story in EVERY_STORY
        for other, text in words.items()
        if other != story.id and f"{story.topic.lower()} " in text
    ]
    assert shared == []


@every_domain
def test_scenarios_know_their_domain(domain: Domain) -> None:
    assert {scenario.domain for scenario in domain.scenarios} == {domain.name}


@every_story
def test_lengths_suit_a_small_model(story: Story) -> None:
    assert 12 <= len(story.opening.split()) <= 25
    assert all(8 <= len(stage.split()) <= 18 for stage in (story.feeling, story.confusion, story.barrier))


@every_story
def test_stages_follow_the_needs_from_feeling_to_confusion_to_barrier(story: Story) -> None:
    scenario = story.scenario("any")
    assert scenario.stages == (story.feeling, story.confusion, story.barrier)
    assert "I feel" in story.feeling
    assert "I can't tell whether" in story.confusion or "I keep thinking" in story.confusion
    assert "I can't tell" not in story.barrier and "I keep thinking" not in story.barrier


@every_story
def test_opening_asks_for_no_advice(story: Story) -> None:
    opening = story.opening.lower()
    assert not any(phrase in opening for phrase in ("what should i", "what can i", "help me", "advice"))


@every_story
def test_state_is_a_deficit_that_ten_turns_can_meet(story: Story) -> None:
    depth = dict(zip("CAP", story.initial_state, strict=True))
    assert -8 <= depth.pop(story.dominant_axis) <= -6
    assert all(-5 <= points <= -3 for points in depth.values())


def _story(**changes: object) -> Story:
    fields: dict[str, object] = {
        "id": "es-work-a-01",
        "split": "train",
        "topic": "the shift",
        "initial_state": (-4.0, -7.0, -3.0),
        "persona": "A nurse.",
        "opening": "I am tired of the shift.",
        "feeling": "I feel empty.",
        "confusion": "I keep thinking the shift is endless.",
        "barrier": "I don't know how to ask.",
    }
    return Story(**(fields | changes))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("id", "es-work-01", "id must be"),
        ("id", "es-work-x-01", "id must be"),
        ("initial_state", (-7.0, -4.0, -3.0), "minimum on the id's axis"),
        ("initial_state", (-4.0, -7.0, 0.0), "must be negative with one minimum"),
        ("initial_state", (-7.0, -7.0, -3.0), "must be negative with one minimum"),
        ("topic", "the garden", "topic must be in the opening and in a stage, got 'the garden'"),
        ("confusion", "I keep thinking it is endless.", "topic must be in the opening and in a stage"),
    ],
)
def test_story_that_contradicts_itself_is_refused(field: str, value: object, message: str) -> None:
    assert _story().scenario("any").category == "work"
    with pytest.raises(ValueError, match=message):
        _story(**{field: value})
