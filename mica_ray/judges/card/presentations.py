"""Every way in which a judge is asked about a turn: repeats, other words, changed replies, known answers.

asking.py asks; wording.py changes the words of the instructions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.domains.canaries import CANARIES, Canary
from mica_ray.judges.card.paraphrases import SENTENCES
from mica_ray.judges.card.turns import RecordedTurn
from mica_ray.judges.card.wording import ORDER, paraphrase, reorder_axes
from mica_ray.types import AXES, LANGUAGES, Scenario, State

AS_IS = "as_is"
"""The recorded turn with the judge's own instructions; repeated with other seeds."""
CONDITIONS: Mapping[str, str] = {
    AS_IS: "the same question again, with other seeds",
    "axis_order": "axes in the order P, A, C in rubric, case and answer",
    "paraphrase": "instructions in other words, with the same rubric",
    "language": "instructions and rubric in the other language",
    "padding": "empty sentences added to the reply",
    "echo": "the user's own message in place of the reply",
    "canary": "replies with known levels",
    "late_canary": "the same replies after three empty turns",
}
"""Conditions by name, in the order in which they are asked."""
WORDINGS = ("axis_order", "paraphrase", "language")
"""Conditions that must not change a judgement: the turn is the same."""

_PADDING = {
    "en": " A day has a morning and an evening. Every week has seven of them. Some are long, some are short, "
    "and one follows the other, as it always has.",
    "zh": "一天有早晨，也有晚上。一个星期有七天。有的日子长，有的日子短，一天接着一天，向来如此。",
}
"""Sentences that say nothing about the person; they may cost points, but must not earn any."""
_EMPTY_TURNS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "en": (("Hi.", "Hello."), ("It is cold today.", "Yes, it is."), ("Can I begin?", "Go ahead.")),
    "zh": (("你好。", "你好。"), ("今天有点冷。", "是啊。"), ("我可以开始说了吗？", "你说。")),
}


@dataclass(frozen=True, slots=True)
class Presentation:
    """One question to a judge."""

    item: str
    """Id of the recorded turn, or of the canary."""
    condition: str
    repeat: int
    scenario: Scenario
    dialogue: tuple[SpokenTurn, ...]
    """Oldest first; the last reply is the one to score."""
    state: State
    """P_{t-1}, points."""

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies the answer in a log."""
        return self.item, self.condition, self.repeat


def reworder(condition: str) -> tuple[Callable[[str], str], Sequence[str]]:
    """Return how a condition changes the judge's instructions, and its order of axes."""
    if condition == "axis_order":
        return reorder_axes, ORDER
    return (paraphrase if condition == "paraphrase" else str), AXES


def applicable(conditions: Sequence[str], domain: Domain, language: str, *, has_prompt: bool) -> list[str]:
    """Return the conditions that make a difference.

    Args:
        conditions: names from `CONDITIONS`.
        domain: its instructions.
        language: of the dialogues.
        has_prompt: whether the judge reads instructions; an object with `score()` does not.
    """
    prompt = domain.prompts(language).judge_prompt
    changes = {
        "axis_order": reorder_axes(prompt) != prompt,
        "paraphrase": paraphrase(prompt) != prompt,
        "language": domain.prompts(other_language(language)).judge_prompt != prompt,
    }
    return [
        name
        for name in CONDITIONS
        if name in conditions and (name not in WORDINGS or (has_prompt and changes[name]))
    ]


def presentations(
    turns: Sequence[RecordedTurn], domain: Domain, conditions: Sequence[str], *, repeats: int
) -> tuple[Presentation, ...]:
    """Return all questions, the first repeat of every turn first.

    Args:
        turns: the recorded turns.
        domain: the domain of the canaries.
        conditions: names from `CONDITIONS` that apply.
        repeats: questions per turn in condition `as_is`; the other conditions ask once.
    """
    asked: list[Presentation] = []
    for condition in conditions:
        if condition in ("canary", "late_canary"):
            asked += _known(condition, domain, main_language(turns))
            continue
        for repeat in range(repeats if condition == AS_IS else 1):
            asked += [_changed(turn, condition, repeat) for turn in turns]
    return tuple(asked)


def main_language(turns: Sequence[RecordedTurn]) -> str:
    """Return the language of most turns."""
    languages = [turn.scenario.language for turn in turns]
    return max(dict.fromkeys(languages), key=languages.count, default="en")


def other_language(language: str) -> str:
    """Return Chinese for English, and English for every other language."""
    return "zh" if language == "en" else "en"


def canaries(condition: str, language: str) -> tuple[Canary, ...]:
    """Return the canaries of a condition; those with earlier turns of their own cannot be moved."""
    spoken = "zh" if language == "zh" else "en"
    return tuple(
        canary
        for canary in CANARIES
        if canary.language == spoken and (condition == "canary" or not canary.earlier)
    )


def questions_digest(domain: Domain) -> str:
    """Return a digest of everything in a question that is not the recorded turn."""
    prompts = [domain.prompts(language).judge_prompt for language in LANGUAGES]
    fixed = (prompts, SENTENCES, _PADDING, dict(_EMPTY_TURNS), CANARIES)
    return hashlib.blake2b(repr(fixed).encode(), digest_size=6).hexdigest()


def _known(condition: str, domain: Domain, language: str) -> list[Presentation]:
    found: list[Presentation] = []
    for canary in canaries(condition, language):
        scenario = canary.scenario(domain)
        earlier = _EMPTY_TURNS[canary.language] if condition == "late_canary" else ()
        turns = (*(SpokenTurn(user=user, reply=reply) for user, reply in earlier), *canary.dialogue)
        found.append(Presentation(canary.name, condition, 0, scenario, turns, scenario.initial_state))
    return found


def _changed(turn: RecordedTurn, condition: str, repeat: int) -> Presentation:
    scenario, reply = turn.scenario, turn.reply
    if condition == "language":
        scenario = replace(scenario, language=other_language(scenario.language))
    elif condition == "padding":
        reply += _PADDING["zh" if scenario.language == "zh" else "en"]
    elif condition == "echo":
        reply = turn.user
    last = SpokenTurn(user=turn.user, reply=reply)
    return Presentation(turn.id, condition, repeat, scenario, (*turn.dialogue[:-1], last), turn.state)
