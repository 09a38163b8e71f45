"""Compare the conversations of two policies about one item with a judge, in both orders."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mica_ray.benchmarks.eqbench3.conversations import Conversation, FindAnswer
from mica_ray.benchmarks.eqbench3.items import EqBench3, Item, filled
from mica_ray.benchmarks.eqbench3.judging import JudgeTask, answer_schema
from mica_ray.benchmarks.eqbench3.rubric import REASONING
from mica_ray.benchmarks.eqbench3.transcript import (
    ANALYSIS_LIMIT,
    REPLY_LIMIT,
    cut,
    guarded,
    plain,
    shown_reply,
    transcript,
)
from mica_ray.dialogue.answer import read_object
from mica_ray.types import Message

CODES = ("A0493", "A0488")
"""Names of the first and the second policy in the prompts of EQ-Bench 3."""
MARGIN = "margin"
"""Name of the sum over criteria in a comparison's scores."""

MOST_PLUSES = 5
"""The clearest win of a criterion."""

_RATING = re.compile(rf"\s*(\w+)\s*([+＋]{{1,{MOST_PLUSES}}})\s*")


@dataclass(frozen=True, slots=True)
class Matchup:
    """Two conversations about one item, in the order in which the judge sees them."""

    item: Item
    sample: int
    first: str
    """Name of the policy that is shown first."""
    second: str
    digest: str = ""
    """Of both conversations: one that was played again is compared again."""

    @property
    def key(self) -> str:
        """Name of the comparison in the file of answers."""
        return f"{self.item.id}: {self.first} | {self.second} | {self.digest}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A matchup and what the judge found."""

    matchup: Matchup
    margin: float | None
    """Sum of the pluses over criteria, those of the second policy negative; None if it could not be read."""


Conversations = Mapping[str, Mapping[tuple[str, int], Conversation]]
"""Usable conversations by policy, then by item and sample."""


def matchups(data: EqBench3, conversations: Conversations) -> tuple[Matchup, ...]:
    """Return every pair of policies on every item and sample that both have, in both orders."""
    found: list[Matchup] = []
    for one, other in itertools.combinations(conversations, 2):
        shared = conversations[one].keys() & conversations[other].keys()
        for item in data.items:
            for sample in sorted(number for name, number in shared if name == item.id):
                for names in ((one, other), (other, one)):
                    digest = _digest([conversations[name][item.id, sample] for name in names])
                    found.append(Matchup(item, sample, *names, digest))
    return tuple(found)


def pairwise_messages(data: EqBench3, first: Conversation, second: Conversation) -> tuple[Message, ...]:
    """Return what the judge reads: both conversations at similar lengths, and the notes on the item."""
    item = first.item
    if item.kind == "analysis":
        first_text, second_text = (
            plain(shown_reply(one.replies[0], (), is_cut=True, limit=ANALYSIS_LIMIT))
            for one in (first, second)
        )
        texts = {
            "transcript_being_analysed": item.prompts[0],
            "response_A": first_text,
            "response_B": second_text,
        }
    else:
        texts = {}
        for letter, one in zip("AB", (first, second), strict=True):
            told = transcript(data, item, one.replies, is_cut=True)
            texts[f"conversation_history_{letter}"] = plain(told)
            texts[f"debrief_{letter}"] = cut(plain(guarded(one.debrief or "")), REPLY_LIMIT)
    prompt = filled(data.pairwise_prompt(item.kind), **texts, scenario_notes=data.notes(item))
    return ({"role": "user", "content": prompt},)


def compare_task(data: EqBench3, matchup: Matchup, conversations: Conversations) -> JudgeTask:
    """Return the comparison of a matchup; the criteria are those that the prompt of its kind names."""
    criteria = data.compared_criteria(matchup.item.kind)
    ratings = [code + "+" * pluses for code in CODES for pluses in range(1, MOST_PLUSES + 1)]
    first, second = (
        conversations[name][matchup.item.id, matchup.sample] for name in (matchup.first, matchup.second)
    )
    return JudgeTask(
        key=matchup.key,
        sample=matchup.sample,
        messages=lambda: pairwise_messages(data, first, second),
        schema=answer_schema(REASONING, {name: {"type": "string", "enum": ratings} for name in criteria}),
        read=lambda text: read_margins(text, criteria),
    )


def read_margins(text: str, criteria: Sequence[str]) -> dict[str, float]:
    """Read a comparison, such as {"overall_eq": "A0488++"}.

    Returns:
        The pluses of each criterion, those of the second policy negative, and their sum as "margin".

    Raises:
        ValueError: not a JSON object, or a criterion without a winner and one to five pluses. Models read the
            message.
    """
    answer = read_object(text)
    found: dict[str, float] = {}
    for name in criteria:
        if name not in answer:
            raise ValueError(f"{name} is missing")
        match = _RATING.fullmatch(str(answer[name]))
        if match is None or match[1] not in CODES:
            raise ValueError(
                f"{name} must be {CODES[0]} or {CODES[1]} and one to five pluses, got {answer[name]!r:.40}"
            )
        found[name] = len(match[2]) * (1.0 if match[1] == CODES[0] else -1.0)
    return {MARGIN: sum(found.values()), **found}


def comparisons(wanted: Sequence[Matchup], find: FindAnswer) -> tuple[Comparison, ...]:
    """Return the comparisons that the judge has made."""
    found: list[Comparison] = []
    for matchup in wanted:
        answer = find(matchup.key, matchup.sample)
        if answer is not None:
            found.append(Comparison(matchup, None if answer.scores is None else answer.scores[MARGIN]))
    return tuple(found)


def _digest(shown: Sequence[Conversation]) -> str:
    joined = "\x1f".join(text for one in shown for text in (*one.replies, one.debrief or ""))
    return hashlib.blake2b(joined.encode(), digest_size=8).hexdigest()
