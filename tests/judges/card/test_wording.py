"""A judge's question in other words asks for the same levels and fields."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from mica_ray.chat.model import ChatReply, JsonSchema
from mica_ray.dialogue.judger import judgement_schema
from mica_ray.dialogue.role_messages import SpokenTurn, judge_messages
from mica_ray.domains.canaries import CANARIES
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.judges.card.paraphrases import SENTENCES
from mica_ray.judges.card.wording import ORDER, RewordedChat, paraphrase, reorder_axes
from mica_ray.types import AXES, Message, Sampling

FIELD = re.compile(r"^- ([CAP])_(progress|regress)_(evidence|reasoning|level)$", re.MULTILINE)
both_languages = pytest.mark.parametrize("language", ["en", "zh"])


def prompt(language: str) -> str:
    return EMOTIONAL_SUPPORT.prompts(language).judge_prompt


def rubric(text: str) -> list[str]:
    """The paragraphs of the rubric."""
    return [paragraph for paragraph in text.split("\n\n") if "_progress_level:" in paragraph]


@dataclass
class Listener:
    """Keeps the last question."""

    messages: list[Message] = field(default_factory=list)
    schema: JsonSchema | None = None

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        self.messages, self.schema = list(messages), schema
        return ChatReply("heard", model="listener")


@both_languages
def test_axes_come_in_another_order_everywhere(language: str) -> None:
    changed = reorder_axes(prompt(language))
    assert [paragraph[paragraph.index("_progress_level:") - 1] for paragraph in rubric(changed)] == [*ORDER]
    # Six fields per axis, and within an axis the reasons still precede the level.
    assert [axis for axis, _, _ in FIELD.findall(changed)] == [axis for axis in ORDER for _ in range(6)]
    assert FIELD.findall(changed)[:3] == [
        ("P", "progress", part) for part in ("evidence", "reasoning", "level")
    ]
    assert ("(P, A, C)" in changed) or ("（P、A、C）" in changed)


@both_languages
def test_another_order_changes_nothing_else(language: str) -> None:
    assert reorder_axes(reorder_axes(prompt(language)), AXES) == prompt(language)


def test_instructions_without_a_rubric_keep_their_order() -> None:
    assert reorder_axes("Rate (C, A, P).\n\n- C_progress_level") == "Rate (C, A, P).\n\n- C_progress_level"


@both_languages
def test_paraphrase_keeps_rubric_and_fields_and_changes_most_other_lines(language: str) -> None:
    own, other = prompt(language), paraphrase(prompt(language))
    assert rubric(other) == rubric(own)
    assert FIELD.findall(other) == FIELD.findall(own)
    fixed = {line for text in rubric(own) for line in text.split("\n")}
    lines = [line for line in own.split("\n") if line and line not in fixed and not FIELD.match(line)]
    kept = [line for line in lines if line in other.split("\n")]
    assert len(kept) < 0.5 * len(lines), kept


def test_a_rephrasing_contains_no_sentence_that_is_rephrased_later() -> None:
    for number, (_, other) in enumerate(SENTENCES):
        assert not [sentence for sentence, _ in SENTENCES[number + 1 :] if sentence in other]


def test_a_paraphrase_of_a_paraphrase_is_the_same() -> None:
    assert paraphrase(paraphrase(prompt("en"))) == paraphrase(prompt("en"))


async def test_case_and_schema_follow_the_order_of_the_axes() -> None:
    listener = Listener()
    canary = CANARIES[0]
    case = judge_messages(
        EMOTIONAL_SUPPORT,
        canary.scenario(EMOTIONAL_SUPPORT),
        state=(-1.0, -2.0, -3.0),
        dialogue=[SpokenTurn(user='{"C": 1, "A": 2, "P": 3}', reply="yes")],
    )
    complaint: Message = {"role": "user", "content": "That answer cannot be used."}
    await RewordedChat(listener, str.upper, ORDER).chat([*case, complaint], Sampling(), judgement_schema())
    seen = json.loads(listener.messages[1]["content"])
    assert list(seen["axes"]) == [*ORDER]
    assert seen == json.loads(case[1]["content"])  # the same values, and what people said is untouched
    assert listener.messages[0]["content"] == case[0]["content"].upper()
    assert listener.messages[2] == complaint
    assert listener.schema is not None
    names = list(listener.schema["properties"])  # pyright: ignore
    assert [name[0] for name in names] == [axis for axis in ORDER for _ in range(6)]
    assert names[:3] == ["P_progress_evidence", "P_progress_reasoning", "P_progress_level"]
    assert listener.schema["required"] == names


async def test_a_case_that_is_no_json_is_passed_on() -> None:
    listener = Listener()
    messages: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "{C, A, P}"}]
    await RewordedChat(listener, str, ORDER).chat(messages, Sampling())
    assert listener.messages == messages and listener.schema is None
