"""What is thought never reaches what is said."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.chat.thinking import Spoken, UnclosedThoughtError, split_thinking


@pytest.mark.parametrize(
    ("text", "reasoning", "spoken"),
    [
        ("Hello. ", "", Spoken("Hello. ")),
        ("<think>\nhm\n</think>\n\nHello.", "", Spoken("Hello.", "hm")),
        # The opening mark stood in the prompt.
        ("hm</think>Hello.", "", Spoken("Hello.", "hm")),
        ("<think>\n\n</think>\n\nHello.", "", Spoken("Hello.")),
        ("Hello.", "hm ", Spoken("Hello.", "hm")),
        ("<think>a</think>b<think>c</think>d", "", Spoken("d", "abc")),
        ("<think>all of it</think>", "", Spoken("", "all of it")),
        # Other models' marks.
        ("<thinking>嗯</thinking>你好", "", Spoken("你好", "嗯")),
        ("<reasoning>a</reasoning><thought>b</thought>c", "", Spoken("c", "ab")),
    ],
)
def test_thinking_and_speech_are_told_apart(text: str, reasoning: str, spoken: Spoken) -> None:
    assert split_thinking(text, reasoning) == spoken


@pytest.mark.parametrize("text", ["<think>so", "<think>a</think>b<think>c", "Well. <think>", "<thought>so"])
def test_reply_cut_off_inside_its_thinking_says_what_to_change(text: str) -> None:
    with pytest.raises(UnclosedThoughtError, match="raise max_tokens"):
        split_thinking(text)


def test_thought_that_the_prompt_opened_must_be_closed() -> None:
    assert split_thinking("so</think>Hi", is_open=True) == Spoken("Hi", "so")
    with pytest.raises(UnclosedThoughtError):
        split_thinking("so it goes", is_open=True)


@settings(deadline=None, max_examples=30)
@given(st.text(), st.text())
def test_thought_is_never_said(thought: str, said: str) -> None:
    secret = f"SECRET{thought}"
    if "think>" in secret + said:
        return
    assert "SECRET" not in split_thinking(f"<think>{secret}</think>{said}").text
