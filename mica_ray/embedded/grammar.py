"""Grammar of the replies that the embedded policy is warmed up on.

Helpful, misplaced and performative replies are mixed, mostly at random, so that the warmed-up policy has the right
phrases but seldom chooses them. No line is an example of good support.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mica_ray.chat.model import ChatReply, JsonSchema
from mica_ray.embedded.retellings import filled
from mica_ray.embedded.words import FEELINGS, WEIGHTS
from mica_ray.embedded.world import Inner, replay
from mica_ray.seeding import derive_seed
from mica_ray.types import Message, Sampling

# The lines of a kind begin with different words, so that a model this small can see which ones it has used and
# learn not to repeat them.
_REPLIES: dict[str, tuple[str, ...]] = {
    "acknowledge": (
        "No wonder you are {feeling} when {topic} will not let go of you.",
        "It makes sense that you are {feeling} after all that with {topic}.",
        "Of course it hurts when {topic} matters this much to you.",
        "Living with {topic} like this must be {weight}.",
        "I can hear how {weight} {topic} is for you.",
        "Anyone would feel {feeling} about {topic}.",
        "Carrying {topic} around must be {weight}.",
        "That must be {weight}, with {topic} on your mind.",
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
        "Maybe {topic} says more about the pressure around you than about you.",
        "Another way to see it is that {topic} matters because you care.",
        "Trouble with {topic} does not mean you are not good enough.",
        "Two things can be true here, {topic} went badly and you are not the cause.",
        "Looked at another way, {topic} is a question and not a verdict.",
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
        "How about choosing a single thing about {topic} for this week?",
        "What if you begin with the easiest part of {topic}?",
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
"""Frequency of each kind, independent of the person's needs: mostly misplaced, sometimes right by chance."""

FITTING = 0.4
"""Share of replies that fit the person's need: without examples the policy could not learn them."""
_FITS = ("reframe", "acknowledge", "step")
"""The fitting kind by the axis (C, A, P) in focus."""
_NAMES_TOPIC = 0.8
"""Share of sentences that name the topic, if their kind can. The warm-up learns naming most slowly."""
_SECOND_SENTENCE = 0.25
"""Share of replies with a second sentence of another kind."""


@dataclass(frozen=True, slots=True)
class GrammarPolicy:
    """A chat model that replies from the grammar and mostly ignores the person's needs."""

    topic: str
    """Topic of the user, in the user's words."""
    person: Inner
    """The person's state at the start of the dialogue."""
    seed: int
    """Replies are a pure function of the seed and the conversation."""

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Return one reply to the user's messages so far."""
        heard = [message["content"] for message in messages if message["role"] == "user"]
        said = [message["content"] for message in messages if message["role"] == "assistant"]
        rng = random.Random(derive_seed(self.seed, *heard))
        count = 2 if rng.random() < _SECOND_SENTENCE else 1
        chosen = rng.choices(list(WARM_UP_MIX), list(WARM_UP_MIX.values()), k=count)
        if rng.random() < FITTING:
            felt = replay(self.person, list(zip(heard, said, strict=False)))
            now = felt[-1].after if felt else self.person
            chosen = [_FITS[now.focus]]
        return ChatReply(
            text=" ".join(sentence(kind, self.topic, rng, said=said) for kind in dict.fromkeys(chosen)),
            model="grammar",
        )


def sentence(kind: str, topic: str, rng: random.Random, *, said: Sequence[str] = ()) -> str:
    """Return one sentence of a kind about a topic, named from the helper's side.

    A line in `said` is not used again as long as others are left, so that the policy learns not to repeat itself.
    """
    lines = tuple(line for line in _REPLIES[kind] if not _was_said(line, said)) or _REPLIES[kind]
    naming = [line for line in lines if "{topic}" in line]
    if naming and rng.random() < _NAMES_TOPIC:
        lines = tuple(naming)
    return filled(
        rng.choice(lines),
        topic=as_helper_names(topic),
        feeling=rng.choice(FEELINGS),
        weight=rng.choice(WEIGHTS),
    )


def as_helper_names(topic: str) -> str:
    """Return the topic as the helper names it: "my exam" becomes "your exam"."""
    return f"your {topic[3:]}" if topic.startswith("my ") else topic


def _was_said(line: str, said: Sequence[str]) -> bool:
    """Whether an earlier reply contains a line, with any values in its slots."""
    fixed = max(re.split(r"\{\w+\}", line), key=len).strip(" .,?").lower()
    return any(fixed in reply.lower() for reply in said)


def kinds() -> tuple[str, ...]:
    """Return the names of the kinds of sentences."""
    return tuple(_REPLIES)
