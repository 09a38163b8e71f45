"""User, director and judge of the embedded world as scripted chat models.

They read the same case file as a language model (dialogue/role_messages.py) and answer in the same formats,
as pure functions of the case and the seed. embedded/world.py holds the rules of the person.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.embedded.reply_reader import content_words, words_of
from mica_ray.embedded.world import Felt, Inner, replay, start
from mica_ray.types import AXES, Message, Sampling

_REACTIONS: dict[str, tuple[str, ...]] = {
    "moved": (
        "Yes, that is it.",
        "That is exactly how it is.",
        "Hearing that helps.",
        "You put it better than I could.",
        "Yes, you see it.",
        "That lands.",
    ),
    "eased": (
        "Maybe so.",
        "That helps a little.",
        "I guess that is true.",
        "Yes, in a way.",
        "A little, yes.",
    ),
    "hurt": (
        "Please do not wave it away.",
        "Now I wish I had not said it.",
        "That stings.",
        "So it does not count for you.",
    ),
    "pushed": (
        "That is too fast for me.",
        "I did not ask for that yet.",
        "You are ahead of me.",
        "I am not there yet.",
    ),
    "unheard": (
        "I am not sure you heard me.",
        "That could be said to anyone.",
        "Hm, that is not it.",
        "That feels empty.",
    ),
    "stale": ("You said that much already.", "Yes, we have been there.", "Okay.", "I know that by now."),
}

_FOCUS: dict[str, tuple[str, ...]] = {
    "A": (
        "{topic} still hurts.",
        "It all sits on my chest, {topic} most of all.",
        "I feel so alone with {topic}.",
        "I could cry about {topic}.",
        "{topic} makes me feel small.",
    ),
    "C": (
        "I keep asking myself what {topic} means.",
        "I do not understand why {topic} turned out like this.",
        "I cannot tell what is true about {topic}.",
        "{topic} makes no sense to me.",
        "I keep going round in circles over {topic}.",
    ),
    "P": (
        "I do not know where to start with {topic}.",
        "I keep putting {topic} off.",
        "I want to do something about {topic} and I freeze.",
        "How would I even begin with {topic}.",
        "I do not trust myself with {topic}.",
    ),
}

_CLOSING: tuple[str, ...] = (
    "I think I can go on from here with {topic}.",
    "{topic} feels lighter now.",
    "I can face {topic} now.",
)


class ScriptedRoles:
    """All three roles of the embedded world, deterministic given case file and seed."""

    name = "scripted"

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Answer in the role that the case file names.

        Raises:
            ChatError: the last message is not a case file, or its role is unknown.
        """
        case = _read_case(messages)
        role = case.get("role")
        rng = random.Random(sampling.seed or 0)
        if role == "judge":
            text = json.dumps(_judge(case))
        elif role == "director":
            text = json.dumps(_direct(case))
        elif role == "actor":
            text = _speak(case, rng)
        else:
            raise ChatError(f"The scripted roles cannot play {role!r}.", kind="refused", endpoint=self.name)
        return ChatReply(text=text, model=self.name, is_verbatim=True)


def _read_case(messages: Sequence[Message]) -> Mapping[str, object]:
    """Parse the case file in the last message."""
    try:
        case = json.loads(messages[-1]["content"])
    except (IndexError, json.JSONDecodeError) as error:
        raise ChatError(
            f"The scripted roles read case files, not free text: {error}.",
            kind="refused",
            endpoint=ScriptedRoles.name,
        ) from error
    if not isinstance(case, dict):
        raise ChatError("The case file is not a JSON object.", kind="refused", endpoint=ScriptedRoles.name)
    return cast(Mapping[str, object], case)


def _felt(case: Mapping[str, object]) -> tuple[Inner, tuple[Felt, ...]]:
    """Replay the case's dialogue: the initial state, and the effect of each reply.

    Raises:
        ChatError: the case does not show the person's needs.
    """
    if not {"initial_state", "need_order"} <= case.keys():
        raise ChatError(
            "The scripted roles need the initial needs. Set roles.shows_needs=true.",
            kind="refused",
            endpoint=ScriptedRoles.name,
        )
    initial = cast(Mapping[str, float], case["initial_state"])
    order = [AXES.index(key) for key in cast(Sequence[str], case["need_order"])]
    inner = start([initial[key] for key in AXES], order)
    dialogue = cast(Sequence[Mapping[str, str | None]], case["dialogue"])
    pairs = [(entry["user"] or "", reply) for entry in dialogue if (reply := entry.get("reply")) is not None]
    return inner, replay(inner, pairs)


def _mind(case: Mapping[str, object]) -> tuple[Inner, str]:
    """Return the person's state now, and the mood after the last reply."""
    inner, felt = _felt(case)
    return (felt[-1].after, felt[-1].mood) if felt else (inner, "unheard")


def _judge(case: Mapping[str, object]) -> dict[str, object]:
    """Score the last reply: 18 fields, with evidence quoted from the reply."""
    _, felt = _felt(case)
    last = felt[-1]
    quotes = "; ".join(f"{mark}: {words}" for mark, words in sorted(last.reading.evidence.items()))
    marks = ", ".join(sorted([*last.reading.kinds, *last.reading.harms])) or "nothing"
    answer: dict[str, object] = {}
    for axis, key in enumerate(AXES):
        for side, level in (("progress", last.progress[axis]), ("regress", last.regress[axis])):
            answer[f"{key}_{side}_level"] = level
            answer[f"{key}_{side}_evidence"] = quotes if level else ""
            answer[f"{key}_{side}_reasoning"] = (
                f"offers {marks}; the person is {last.mood}" if level else "no sign of it"
            )
    return answer


def _direct(case: Mapping[str, object]) -> dict[str, object]:
    """Reveal the first untold stage if its need is in focus; otherwise continue."""
    now, mood = _mind(case)
    num_revealed = len(cast(Sequence[str], case.get("told", ())))
    untold = cast(Sequence[Mapping[str, object]], case.get("untold", ()))
    guidance = f"You are {mood}; what weighs now is {AXES[now.focus]}."
    if untold and num_revealed <= now.order.index(now.focus):
        return {"move": "reveal_stage", "stage": untold[0]["stage"], "guidance": guidance}
    return {"move": "continue", "guidance": guidance}


def _speak(case: Mapping[str, object], rng: random.Random) -> str:
    """Return the person's next message: a reaction, then the new fragment or the need in focus."""
    now, mood = _mind(case)
    reaction = rng.choice(_REACTIONS[mood])
    fragment = case.get("fragment")
    if isinstance(fragment, str) and fragment:
        return f"{reaction} {fragment}"
    lines = _CLOSING if all(now.is_met(axis) for axis in range(3)) else _FOCUS[AXES[now.focus]]
    said = [entry["user"] for entry in cast(Sequence[Mapping[str, str]], case["dialogue"])]
    topic = cast(str, case.get("topic")) or topic_of([said[0], *cast(Sequence[str], case.get("told", ()))])
    sentences = [line.format(topic=topic) for line in lines]
    sentences = [sentence[:1].upper() + sentence[1:] for sentence in sentences]
    fresh = [sentence for sentence in sentences if not any(sentence in message for message in said)]
    return f"{reaction} {rng.choice(fresh or sentences)}"


def topic_of(texts: Sequence[str]) -> str:
    """Return the topic of a story: its most common content word, the first one on a tie."""
    counts = Counter(word for text in texts for word in content_words(text))
    if not counts:
        return "the whole thing"
    stem = max(counts, key=lambda word: counts[word])
    return "the " + next(word for text in texts for word in words_of(text) if content_words(word) == [stem])
