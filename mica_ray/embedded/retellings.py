"""Scenarios from a grammar, and our own scenarios retold with other topics."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from mica_ray.embedded.words import FEELINGS, NOUNS, PEOPLE, QUALITIES
from mica_ray.seeding import derive_seed
from mica_ray.types import Scenario

_OPENINGS = (
    "I feel {feeling} because of {topic}. It is all I think about.",
    "Since {topic} started I have been {feeling} every single day.",
    "{topic} has left me {feeling}, and nobody around me seems to notice.",
    "It is about {topic}. I am {feeling} and I cannot hide it any more.",
    "It is {topic} that keeps me awake. I lie there, {feeling} and quiet.",
    "I did not think {topic} would make me so {feeling}.",
    "Everyone talks about {topic} as if it were easy. I am just {feeling}.",
)
_STAGES: tuple[tuple[str, ...], ...] = (
    (
        "When I think of {topic} my throat gets tight and I feel {feeling}.",
        "Last night I cried about {topic} and told nobody.",
        "Inside I am {feeling}, and {topic} only makes it louder.",
        "I smile in front of others, but {topic} has made me {feeling}.",
    ),
    (
        "I keep thinking {topic} shows that I am not good enough.",
        "I cannot tell whether {topic} went wrong because of me.",
        "I do not understand why {topic} matters so much to me.",
        "Maybe they were right about {topic}, and I see it all wrong.",
    ),
    (
        "I want to change something about {topic}, but I do not know how to start.",
        "I keep putting off {topic} because I am sure I will fail.",
        "There is a thing I could do about {topic}, and every morning I freeze.",
        "Part of me wants to face {topic}, and I never take the first step.",
    ),
)

_ORDER = (1, 0, 2)
"""Axis indices in the order of a story's stages: A, C, P."""


def scenario(number: int, domain: str, rng: random.Random) -> Scenario:
    """Draw a scenario: a topic, a person with a feeling about it, and three stages."""
    topic, feeling = draw_topic(rng), rng.choice(FEELINGS)
    dominant = rng.choice("CAP")
    depth = {key: -float(rng.randint(6, 8) if key == dominant else rng.randint(3, 5)) for key in "CAP"}

    def fill(lines: Sequence[str]) -> str:
        return filled(rng.choice(lines), topic=topic, feeling=feeling)

    return Scenario(
        id=f"grammar-{number:05d}",
        domain=domain,
        category="grammar",
        dominant_axis=dominant,
        persona=f"Someone troubled by {topic}.",
        opening=fill(_OPENINGS),
        initial_state=(depth["C"], depth["A"], depth["P"]),
        stages=(fill(_STAGES[0]), fill(_STAGES[1]), fill(_STAGES[2])),
        split="train",
        topic=topic,
    )


def retold(story: Scenario, name: str, rng: random.Random) -> Scenario:
    """Retell a scenario with another topic, so that its sentences do not reveal the topic."""
    topic = draw_topic(rng)

    def tell(text: str) -> str:
        changed = re.sub(re.escape(story.topic), topic, text, flags=re.IGNORECASE)
        return changed[:1].upper() + changed[1:]

    return replace(
        story,
        id=name,
        opening=tell(story.opening),
        stages=tuple(tell(stage) for stage in story.stages),
        topic=topic,
    )


def with_retellings(scenarios: Sequence[Scenario], count: int, *, seed: int) -> tuple[Scenario, ...]:
    """Add retellings of the training scenarios: the same people and needs with other topics.

    A policy memorizes a story that it meets a dozen times; with changing topics it must read the messages.
    Validation and test scenarios and stories without a topic are unchanged.

    Args:
        scenarios: scenarios of a domain.
        count: retellings per training scenario, besides the original.
        seed: seed of the topics.
    """
    rng = random.Random(derive_seed(seed, "retellings"))
    own = [story for story in scenarios if story.split == "train" and story.topic]
    added = [retold(story, f"{story.id}-told-{number:02d}", rng) for number in range(count) for story in own]
    return (*scenarios, *added)


def started_late(story: Scenario, rng: random.Random) -> Scenario:
    """Start a story at random with no need met, the first one, or the first two.

    A weak policy seldom reaches a person's later needs, and would not learn how they sound.
    """
    num_met = rng.choice((0, 1, 2))
    if num_met == 0:
        return story
    state = [0.0 if axis in _ORDER[:num_met] else depth for axis, depth in enumerate(story.initial_state)]
    return replace(
        story,
        opening=f"{story.opening} {story.stages[num_met]}",
        initial_state=(state[0], state[1], state[2]),
    )


def draw_topic(rng: random.Random) -> str:
    """Draw a topic, out of so many that a policy can only name it by copying it."""
    noun = rng.choice(NOUNS)
    form = rng.randrange(5)
    if form == 0:
        return f"my {noun}"
    if form == 1:
        return f"my {rng.choice(PEOPLE)}'s {noun}"
    if form == 2:
        return f"the {noun}"
    return f"the {rng.choice(QUALITIES if form == 3 else NOUNS)} {noun}"


def filled(line: str, *, topic: str, feeling: str, weight: str = "") -> str:
    """Fill the slots of a line and capitalize its sentences."""
    text = line.format(topic=topic, feeling=feeling, weight=weight)
    return ". ".join(part[:1].upper() + part[1:] for part in text.split(". "))
