"""A grammar of scenarios and replies: what the embedded policy is warmed up on.

Helpful, misplaced and performative replies are mixed, mostly without regard to what the person needs, so that the
warmed-up policy can say the right thing and hardly knows when. No line of it is a model of good support.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mica_ray.chat.model import ChatReply, JsonSchema
from mica_ray.chat.scripted_world import Inner, replay
from mica_ray.rollout.support_words import FEELINGS, NOUNS, PEOPLE, QUALITIES, WEIGHTS
from mica_ray.seeding import derive_seed
from mica_ray.types import Message, Sampling, Scenario

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

_REPLIES: dict[str, tuple[str, ...]] = {
    "acknowledge": (
        "That sounds really {weight}.",
        "{topic} sounds {weight}, and you carry it every day.",
        "No wonder you are {feeling} when {topic} will not let go of you.",
        "It makes sense that you feel {feeling}.",
        "It makes sense that you are {feeling} after all that with {topic}.",
        "Of course it hurts when {topic} matters this much to you.",
        "That must be {weight} to live with.",
        "Living with {topic} like this must be {weight}.",
        "You feel {feeling}, and {topic} keeps pressing on it.",
        "I can hear how {weight} {topic} is for you.",
        "Anyone would feel {feeling} in your place.",
        "It is understandable that you are so {feeling} about {topic}.",
        "I see that {topic} weighs on you more than others notice.",
        "Being {feeling} for this long is {weight}.",
    ),
    "explore": (
        "What part of {topic} stays with you most?",
        "How did it feel when {topic} came up?",
        "What does {topic} mean to you?",
        "When is it worst for you?",
        "What goes through your mind then?",
        "How would you describe {topic} to a friend?",
    ),
    "reframe": (
        "Perhaps {topic} says more about the pressure around you than about you.",
        "Another way to see it is that {topic} matters because you care.",
        "{topic} going wrong does not mean you are not good enough.",
        "Maybe it is less about fault and more about timing.",
        "Two things can be true here, {topic} went badly and you are not the cause.",
        "It might mean you need rest rather than that you are weak.",
        "One way to look at {topic} is as a question, and not a verdict.",
        "What this shows is how much {topic} counts for you.",
        "This does not have to mean you failed.",
        "The trouble with {topic} could be a sign of change rather than of failure.",
        "Perhaps both are mixed up, {topic} itself and what others say of it.",
    ),
    "affirm": (
        "You have kept going with {topic} for a long time already.",
        "It takes courage to speak about {topic}.",
        "You already showed a lot of strength.",
        "You managed to say it, and that takes strength.",
        "I trust you can find your own way with {topic}.",
        "You still care, and you have come far.",
    ),
    "step": (
        "One small step could be to write down one line about {topic}.",
        "You could start with five minutes for {topic} today.",
        "Would it help to ask one person you trust about {topic}?",
        "You might try a short walk before anything else.",
        "How about choosing a single thing about {topic} for this week?",
        "A first step might be to call someone tomorrow.",
        "It might help to set a small date for {topic}.",
        "You could tell one friend what {topic} is like.",
        "What if you begin with the easiest part of {topic}?",
        "You can take one gentle step and leave the rest.",
    ),
    "dismiss": (
        "Others have it worse, you know.",
        "It is not a big deal.",
        "At least you still have your health.",
        "Calm down, {topic} is nothing to worry about.",
        "You are making a fuss about {topic}.",
        "Everyone has problems with {topic}.",
        "Just get over it.",
    ),
    "preach": (
        "You should pull yourself together.",
        "You need to move on from {topic}.",
        "You have to deal with {topic} now.",
        "You really should work harder on {topic}.",
        "You must face {topic} like an adult.",
        "You ought to be grateful.",
        "The right thing is to forget {topic}.",
    ),
    "hollow": (
        "Everything happens for a reason.",
        "Stay positive and hang in there.",
        "Things will get better.",
        "I am sorry to hear that.",
        "I am here for you.",
        "Time heals, do not worry.",
        "You are not alone, stay positive.",
        "Thank you for sharing.",
        "I understand how you feel.",
        "It will be okay, everything will work out.",
        "Believe in yourself, you can do anything.",
        "Sending you love and strength.",
    ),
}

WARM_UP_MIX: dict[str, float] = {
    "acknowledge": 0.06,
    "explore": 0.06,
    "reframe": 0.09,
    "affirm": 0.06,
    "step": 0.12,
    "dismiss": 0.14,
    "preach": 0.20,
    "hollow": 0.27,
}
"""How often each kind is said, whatever the person needs: mostly beside the point, and sometimes right by chance."""

FITTING = 0.45
"""Share of replies that are what the person needs now: a policy that never heard a fitting reply cannot tell one."""
_FITS = ("reframe", "acknowledge", "step")
"""The kind that fits, by the axis (C, A, P) in focus."""
_ORDER = (1, 0, 2)
"""Axes in the order of the stages of a story: A, C, P."""
_NAMES_TOPIC = 0.8
"""Share of sentences that name the topic, of the kinds that can: naming it is what the warm-up teaches slowest."""
_SECOND_SENTENCE = 0.25
"""Share of replies with a second sentence of another kind."""


@dataclass(frozen=True, slots=True)
class GrammarPolicy:
    """A chat model that says something from the grammar, mostly deaf to what the person needs."""

    topic: str
    """What the user talks about, in the user's words."""
    person: Inner
    """The person as the dialogue begins."""
    seed: int
    """Replies are a pure function of the seed and the conversation."""

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Give one reply to the user's messages so far."""
        heard = [message["content"] for message in messages if message["role"] == "user"]
        rng = random.Random(derive_seed(self.seed, *heard))
        count = 2 if rng.random() < _SECOND_SENTENCE else 1
        chosen = rng.choices(list(WARM_UP_MIX), list(WARM_UP_MIX.values()), k=count)
        if rng.random() < FITTING:
            said = [message["content"] for message in messages if message["role"] == "assistant"]
            felt = replay(self.person, list(zip(heard, said, strict=False)))
            now = felt[-1].after if felt else self.person
            chosen = [_FITS[now.focus]]
        return ChatReply(
            text=" ".join(sentence(kind, self.topic, rng) for kind in dict.fromkeys(chosen)), model="grammar"
        )


def sentence(kind: str, topic: str, rng: random.Random) -> str:
    """Give one sentence of a kind about a topic, which is named as the other side of the talk would name it."""
    theirs = f"your {topic[3:]}" if topic.startswith("my ") else topic
    lines = _REPLIES[kind]
    naming = [line for line in lines if "{topic}" in line]
    if naming and rng.random() < _NAMES_TOPIC:
        lines = tuple(naming)
    return _filled(rng.choice(lines), theirs, rng.choice(FEELINGS), weight=rng.choice(WEIGHTS))


def _filled(line: str, topic: str, feeling: str, *, weight: str = "") -> str:
    """Fill the slots of a line and begin its sentences with capitals."""
    text = line.format(topic=topic, feeling=feeling, weight=weight)
    return ". ".join(part[:1].upper() + part[1:] for part in text.split(". "))


def kinds() -> tuple[str, ...]:
    """Name the kinds of sentence the grammar has."""
    return tuple(_REPLIES)


def scenario(number: int, domain: str, rng: random.Random) -> Scenario:
    """Draw a scenario: a topic, a person who feels something about it, three stages of the story."""
    topic, feeling = draw_topic(rng), rng.choice(FEELINGS)
    dominant = rng.choice("CAP")
    depth = {key: -float(rng.randint(6, 8) if key == dominant else rng.randint(3, 5)) for key in "CAP"}

    def fill(lines: Sequence[str]) -> str:
        return _filled(rng.choice(lines), topic, feeling)

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


def retold(story: Scenario, number: int, rng: random.Random) -> Scenario:
    """Tell a scenario about another topic, so that its sentences do not give the topic away."""
    topic = draw_topic(rng)

    def tell(text: str) -> str:
        told = re.sub(re.escape(story.topic), topic, text, flags=re.IGNORECASE)
        return told[:1].upper() + told[1:]

    return replace(
        story,
        id=f"retold-{number:05d}",
        opening=tell(story.opening),
        stages=tuple(tell(stage) for stage in story.stages),
        topic=topic,
    )


def begun_late(story: Scenario, rng: random.Random) -> Scenario:
    """Let a story begin where its person may already feel heard, or understand too.

    A policy that talks past people hardly ever gets to their later needs, and would not learn what they sound like.
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
    """Draw what a story is about: so many combinations that copying it from the talk is the only way to name it."""
    noun = rng.choice(NOUNS)
    form = rng.randrange(5)
    if form == 0:
        return f"my {noun}"
    if form == 1:
        return f"my {rng.choice(PEOPLE)}'s {noun}"
    if form == 2:
        return f"the {noun}"
    return f"the {rng.choice(QUALITIES if form == 3 else NOUNS)} {noun}"
