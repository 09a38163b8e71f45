"""A role's JSON object is found inside surrounding text, and nothing else is accepted in its place."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.chat.model import ChatReply
from mica_ray.dialogue.answer import ParsedAnswer, ask, read_object
from mica_ray.dialogue.judger import read_judgement
from mica_ray.types import Message, Sampling, Status
from tests.dialogue.tiny_domain import DOMAIN, QueuedChat, judgement_json

GOOD = {"move": "continue", "guidance": "他说：“别走。”", "level": -1}
TEXT = json.dumps(GOOD, ensure_ascii=False)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"```json\n{TEXT}\n```",
        f"好的，以下是评分：\n{TEXT}\n以上。",
        f"<think>先看 {{C}} 轴。\n{{还没想好</think>\n{TEXT}",
        f"想了一半</think>{TEXT}",  # The template itself opened the thoughts.
        f"I weigh {{C}}, {{A}} and {{P}} first.\n\n{TEXT}",
        f"The set {{0, 1}} holds the levels: {TEXT}",
        TEXT[:-1] + ",}",
        TEXT[:-1] + " ,\n }",
        TEXT.replace('": ', '"：').replace(', "', '，"'),  # full-width colons and commas between the fields
        "\ufeff" + TEXT,
    ],
)
def test_object_is_found_in_what_surrounds_it(text: str) -> None:
    assert read_object(text) == GOOD


def test_line_breaks_inside_a_quoted_reply_are_kept() -> None:
    assert read_object('{"evidence": "先坐下。\n再说。"}') == {"evidence": "先坐下。\n再说。"}


def test_punctuation_inside_texts_is_left_alone() -> None:
    answer = {"a": "一：二，三", "b": "x,}", "c": 'he said "no", ]'}
    # The trailing comma makes the strict reading fail, so that the lenient one has to get the texts right.
    assert read_object(json.dumps(answer, ensure_ascii=False)[:-1] + ",}") == answer


QUOTES = json.dumps({"evidence": "He replied: hm.</think>Hello, with <think> before.", "level": 1})


@pytest.mark.parametrize(
    "text",
    [
        QUOTES,
        f"```json\n{QUOTES}\n```",
        f"Here is my rating: {QUOTES}",
        f"<think>He wrote `</think>`.</think>{QUOTES}",
        f"[THINK]{{hm}}[/THINK]{QUOTES}",
        f"I rate it first.\n</think>\n\n{QUOTES}",
        f"Draft: {TEXT}\n</think>\n\n{QUOTES}",
        f"<|channel|>analysis<|message|>{TEXT}<|end|><|start|>assistant<|channel|>final<|message|>{QUOTES}",
        QUOTES[:-1] + ",}",
    ],
)
def test_marks_inside_the_answer_are_part_of_it(text: str) -> None:
    assert read_object(text) == json.loads(QUOTES)


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{TEXT}",
        f"<THINK>{TEXT} or",
        f"[THINK]{TEXT}",
        f"analysisMaybe {TEXT}",
        f"<think>a</think><think>{TEXT}",
    ],
)
def test_draft_in_an_unfinished_thought_is_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match="ends within its thoughts"):
        read_object(text)


def test_draft_before_a_closing_mark_is_no_answer() -> None:
    with pytest.raises(ValueError, match="holds no JSON object"):
        read_object(f"Draft: {TEXT}\n</think>\n")


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_answer_that_was_cut_off_is_asked_for_again_though_it_can_be_read(
    reason: Literal["length", "content_filter"],
) -> None:
    cut, whole = (
        ChatReply('{"a": 1}', "m", finish_reason=reason),
        ChatReply('{"a": 2}', "m", finish_reason="stop"),
    )
    model = QueuedChat(cut, whole)
    answer = await asked(model)
    assert (answer.value, answer.status, answer.finish_reason) == ({"a": 2}, Status.REPAIRED, "stop")
    assert "cut" in str(model.asked[1].messages[-1]["content"])
    answer = await asked(QueuedChat(cut))
    assert (answer.value, answer.status, answer.finish_reason) == (None, Status.INVALID, reason)


@pytest.mark.parametrize("reason", ["stop", None])
async def test_whole_answer_and_one_without_a_reason_are_read(reason: Literal["stop"] | None) -> None:
    answer = await asked(QueuedChat(ChatReply('{"a": 1}', "m", finish_reason=reason)))
    assert (answer.value, answer.status, answer.finish_reason) == ({"a": 1}, Status.OK, reason)


async def asked(model: QueuedChat) -> ParsedAnswer[Mapping[str, object]]:
    """Ask for any JSON object."""
    question: list[Message] = [{"role": "user", "content": "?"}]
    return await ask(model, question, sampling=Sampling(), schema={}, read=read_object, deadline_seconds=30)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no JSON object"),
        ("我觉得还行。", "holds no JSON object"),
        ("[1, 2]", "holds no JSON object"),
        (f"<think>{TEXT}", "ends within its thoughts"),  # Cut off: a draft is not an answer.
        (TEXT[:-6], "breaks off within its JSON object"),
        (TEXT + TEXT, "not one valid JSON object"),
        (f"First: {TEXT}\nNo, rather: {TEXT}", "not one valid JSON object"),
        ('{"a": oops, "b": {"level": 1}}', "not one valid JSON object"),
        ('{"a": "x" "b": {"level": 1}', "not one valid JSON object"),
    ],
)
def test_what_is_not_one_object_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_object(text)


def test_hostile_nesting_is_refused_at_once() -> None:
    started = time.process_time()
    for text in ('{"a":' * 100_000 + "}", "{" * 200_000 + "}", '{"a}' * 50_000):
        with pytest.raises(ValueError):
            read_object(text)
    assert time.process_time() - started < 5  # It takes milliseconds; quadratic, minutes.


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=12) | st.integers(-2, 2), min_size=1, max_size=4),
    st.sampled_from([",}", " , }", "，}"]),
)
def test_any_object_survives_a_trailing_comma(answer: dict[str, object], end: str) -> None:
    assert read_object(json.dumps(answer, ensure_ascii=False)[:-1] + end) == answer


@pytest.mark.parametrize(
    ("written", "level"),
    [("１", 1), ("－1", -1), ("−2", -2), ("—1", -1), ("+1", 1), ("+2", 2), ("-0", 0), ("2分", 2), 
     ("-1 级", -1), ("Level 2", 2), ("等级：-1", -1), ("level: 0", 0)],
)  # fmt: skip
def test_levels_written_as_chinese_or_labelled_numbers_are_read(written: str, level: int) -> None:
    side = "regress" if level < 0 else "progress"
    judgement = read_judgement(judgement_json(**{f"C_{side}_level": written}), DOMAIN)
    assert getattr(judgement, side)[0] == level


@pytest.mark.parametrize("written", ["一", "1.0", "0 or 1", "1/2", "12", "--1", "none", "分"])
def test_other_texts_are_no_level(written: str) -> None:
    with pytest.raises(ValueError, match="C_progress_level must be one of 0, 1, 2"):
        read_judgement(judgement_json(C_progress_level=written), DOMAIN)
