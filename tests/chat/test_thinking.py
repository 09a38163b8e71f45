"""Thoughts never become part of the reply."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.chat.thinking import OPENINGS, Spoken, SpokenStream, UnclosedThoughtError, split_thinking


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
    with pytest.raises(UnclosedThoughtError, match="Raise max_tokens"):
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


def streamed(pieces: Sequence[str], *, is_open: bool = False) -> tuple[Spoken, bool]:
    """Return the joined parts of all chunks, and whether the output ended inside a thought."""
    stream = SpokenStream(is_open=is_open)
    parts = [*(stream.feed(piece) for piece in pieces), stream.end()]
    whole = Spoken("".join(part.text for part in parts), "".join(part.thinking for part in parts))
    return whole, stream.is_open


def test_a_mark_that_comes_in_parts_waits_and_nothing_else_does() -> None:
    stream = SpokenStream()
    pieces = ["<th", "ink>\n", "h", "m\n</", "think>", "\n\n", "He", "llo < ", "<thi"]
    parts = [stream.feed(piece) for piece in pieces]
    assert [part.thinking for part in parts] == ["", "", "h", "m", "", "", "", "", ""]
    assert [part.text for part in parts] == ["", "", "", "", "", "", "He", "llo < ", ""]
    assert stream.end() == Spoken("<thi")


@pytest.mark.parametrize(
    ("text", "is_open", "spoken", "is_cut"),
    [
        ("hm</think>\n\nHello.", True, Spoken("Hello.", "hm"), False),
        ("so it goes ", True, Spoken("", "so it goes"), True),
        ("<think>so", False, Spoken("", "so"), True),
        (" \n", False, Spoken(" \n"), False),
        # Said is said: what comes before a thought was on its way already.
        ("Well. <think>hm</think> So.", False, Spoken("Well.  So.", "hm"), False),
        ("Hello.</think>", False, Spoken("Hello."), False),
    ],
)
def test_a_streamed_thought_is_told_apart(text: str, is_open: bool, spoken: Spoken, is_cut: bool) -> None:
    assert streamed([text], is_open=is_open) == (spoken, is_cut)


FRAGMENTS = st.lists(
    st.sampled_from(
        [*OPENINGS, *(mark.replace("<", "</") for mark in OPENINGS), "<", "</th", "a", "b ", " ", "\n"]
    )
)


@settings(deadline=None, max_examples=200)
@given(FRAGMENTS, st.lists(st.integers(0, 60)), st.booleans())
def test_a_reply_comes_out_the_same_however_it_is_cut(
    fragments: list[str], cuts: list[int], is_open: bool
) -> None:
    text = "".join(fragments)
    edges = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(edges)]
    assert streamed(pieces, is_open=is_open) == streamed([text], is_open=is_open)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text("ab <\n")), st.text("ab <\n"), st.booleans())
def test_thoughts_before_speech_are_told_apart_as_in_the_whole_text(
    thoughts: list[str], said: str, is_open: bool
) -> None:
    is_open = is_open and bool(thoughts)
    text = " ".join(f"<think>{thought}</think>" for thought in thoughts) + said
    text = text.removeprefix("<think>") if is_open else text
    assert streamed([text], is_open=is_open) == (split_thinking(text, is_open=is_open), False)
