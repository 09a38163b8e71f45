"""Thoughts are never said, and what was said is never taken for a thought."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.chat.thinking import Spoken, SpokenStream, UnclosedThoughtError, split_thinking
from mica_ray.chat.thinking_marks import KNOWN, marks_with, template_tags

TAGS = ("think", "thinking", "thought", "thoughts", "reasoning", "reason", "THINK", "Thinking", "seed:think")
TAGS += (
    "longcat_think",
    "ifm|think_fast",
    "mm:think",
    "REASONING_SCRATCHPAD",
    "M2_7think",
    "思考",
    "analysis",
)
HARMONY = "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"
MARKS: tuple[tuple[str, str], ...] = (
    *((f"<{tag}>", f"</{tag}>") for tag in TAGS),
    ("<think >", "</ think>"),
    ("<think>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("[think]", "[/think]"),
    ("[unused16]", "[unused17]"),
    ("◁think▷", "◁/think▷"),
    HARMONY,
    ("<|start|>assistant" + HARMONY[0], HARMONY[1]),
    ("<|channel|>commentary to=tool <|constrain|>json<|message|>", HARMONY[1]),
    (HARMONY[0], HARMONY[1].replace("final", "final <|constrain|>json")),
    ("analysis", "assistantfinal"),
    ("commentary", "assistantfinal"),
    ("<|channel>thought\n", "<channel|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|think|>", "<|/think|>"),
    ("<｜begin▁of▁thinking｜>", "<｜end▁of▁thinking｜>"),
    ("Here is my thought process:", "Here is my response:"),
    ("Here's my thought process:", "Here’s my response:"),
    ("&lt;think&gt;", "&lt;/think&gt;"),
    ("【思考】", "【/思考】"),
    ("```thinking\n", "\n```"),
)
"""Opening and closing marks of model families."""


@pytest.mark.parametrize(("opening", "closing"), MARKS)
@pytest.mark.parametrize("border", ["", "\n", "\n\n"])
def test_thought_of_every_family_is_not_said(opening: str, closing: str, border: str) -> None:
    found = split_thinking(f"{border}{opening}She lost her dog.{border}{closing}{border}That hurts.")
    assert found.text == "That hurts." and found.thinking.endswith("She lost her dog.")


@pytest.mark.parametrize(("opening", "closing"), MARKS)
@pytest.mark.parametrize("is_open", [False, None])
def test_reply_of_any_family_cut_off_in_its_thought_is_an_error(
    opening: str, closing: str, is_open: bool | None
) -> None:
    with pytest.raises(UnclosedThoughtError, match="Raise max_tokens"):
        split_thinking(f"{opening}She lost her dog. I should {closing[:-1]}", is_open=is_open)


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Hello. ", Spoken("Hello. ")),
        (" \n", Spoken(" \n")),
        ("<think>\n\n</think>\n\nHello.", Spoken("Hello.")),
        ("</think>\n\nHello.", Spoken("Hello.")),
        ("<think/>Hello.", Spoken("Hello.")),
        ("\ufeff<think>hm</think>Hello.", Spoken("Hello.", "hm")),
        ("<think>all of it</think>", Spoken("", "all of it")),
        # Several thoughts at the start.
        ("<reasoning>a</reasoning>\n<thought>b</thought>c", Spoken("c", "a\nb")),
        ("<think>a</think>b<think>c</think>d", Spoken("b<think>c</think>d", "a")),
        # Nested and unbalanced marks: the thought ends where it balances, or at the last closing mark.
        ("<think>a<think>b</think>c</think>d", Spoken("d", "abc")),
        ("<think>write <think> here</think>Hello.", Spoken("Hello.", "write  here")),
        ("<think>He wrote `</think>` twice: '</think>'.</think>Hi", "He wrote `</think>` twice: '</think>'."),
        # The reply's own marks.
        ("<think>a</think>\n<answer>\nHello.\n</answer>\n", Spoken("Hello.\n", "a")),
        ("<|END_THINKING|><|START_RESPONSE|>Hello.<|END_RESPONSE|>", Spoken("Hello.")),
        ("<|START_RESPONSE|>Hello.<|END_RESPONSE|>", Spoken("Hello.")),
        ("<|channel|>final<|message|>Hello.<|return|>", Spoken("Hello.")),
        ("<|start|>assistant<|channel|>final<|message|>Hello.<|end|>", Spoken("Hello.")),
        (
            f"{HARMONY[0]}a<|end|><|start|>assistant{HARMONY[0]}b{HARMONY[1]}Hello.<|return|>",
            Spoken("Hello.", "ab"),
        ),
        ("analysisHm.assistantcommentaryHm.assistantfinalHello.", Spoken("Hello.", "Hm.Hm.")),
    ],
)
def test_reply_is_what_follows_the_thoughts_at_the_start(text: str, spoken: Spoken | str) -> None:
    assert split_thinking(text, is_open=False) == (
        Spoken("Hi", spoken) if isinstance(spoken, str) else spoken
    )


@pytest.mark.parametrize(
    "text", ["<think>so", "<think>a<think>b</think>c<think>d", "<think>a</think><think>b"]
)
def test_last_thought_must_be_closed(text: str) -> None:
    with pytest.raises(UnclosedThoughtError):
        split_thinking(text)


@pytest.mark.parametrize(
    "text",
    [
        "Some models write <think> before they answer, and </think> after it.",
        "The tag is `</think>`.\nThat is all.",
        'He ended it with "</think>"\nand left.',
        "It ends (</think>)\nhere.",
        "Well. <think>hm</think>\nSo.",
        "模型用</think>结束思考。",
        "```\n</think>\n```\nThat is the mark.",
        '{"evidence": "the reply was: hm.</think>Hello."}',
        '[{"evidence": "hm</think>Hello."}]',
        'I weigh {C} first: {"evidence": "hm.</think>Hello.", "level": 1}',
        'My rating:\n{"evidence": "hm\n</think>\nHello.", "level": {"C": 1}}\nThat is all.',
        "analysis of your message shows nothing",
        "Analysis: you are tired.",
        "I wrote [THINK] on the wall [/THINK] in red.",
        "Here is my response: no.",
        "We did the analysis; the assistant finally came.",
        "◁ is a triangle and ▷ too",
        "<3 you all",
        "<b>think</b>",
        "【回答】\n不行。",
    ],
)
def test_marks_in_prose_code_and_json_are_text(text: str) -> None:
    assert split_thinking(text) == split_thinking(text, is_open=False) == Spoken(text)


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("hm</think>Hello.", Spoken("Hello.", "hm")),
        ("A loss.\n</think>\n\nThat hurts.", Spoken("That hurts.", "A loss.")),
        ("A loss.</think> That hurts.", Spoken("That hurts.", "A loss.")),
        ('I say "hm."</think>\nThat hurts.', Spoken("That hurts.", 'I say "hm."')),
        ("很难过。</think>你好", Spoken("你好", "很难过。")),
        ("A loss.[/THINK]\nThat hurts.", Spoken("That hurts.", "A loss.")),
        ("A loss.\n</think>\n<think>So.</think>That hurts.", Spoken("That hurts.", "A loss.\nSo.")),
        ("It is `</think>` for once.\n</think>\nHi.", Spoken("Hi.", "It is `</think>` for once.")),
    ],
)
def test_unknown_prompt_may_have_opened_the_thought(text: str, spoken: Spoken) -> None:
    assert split_thinking(text) == spoken
    assert split_thinking(text, is_open=True).text == spoken.text
    # A known prompt that opened none makes the mark text, and so does a server that separated the thoughts.
    assert split_thinking(text, is_open=False) == Spoken(text)
    assert split_thinking(text, "hm") == Spoken(text, "hm")


def test_thought_that_the_prompt_opened_must_be_closed() -> None:
    assert split_thinking("so</think>Hi", is_open=True) == Spoken("Hi", "so")
    assert split_thinking("<think>\nso</think>Hi", is_open=True) == Spoken("Hi", "so")
    with pytest.raises(UnclosedThoughtError):
        split_thinking("so it goes", is_open=True)


def test_thoughts_that_the_server_separated_come_first() -> None:
    assert split_thinking("<think>b</think>c", "a ") == Spoken("c", "a\nb")


@pytest.mark.parametrize(
    ("prompt", "is_open"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>assistant\n", False),
        ("[/INST][THINK]", True),
        ("<|start|>assistant<|channel|>analysis<|message|>", True),
        ("<|start_header_id|>assistant<|end_header_id|>\n\n", False),
        ("<start_of_turn>model\n<|channel>thought\n", True),
        ("<|CHATBOT_TOKEN|><|START_THINKING|>", True),
        ("<|CHATBOT_TOKEN|><|START_THINKING|><|END_THINKING|>", False),
    ],
)
def test_end_of_a_prompt_shows_whether_it_opened_a_thought(prompt: str, is_open: bool) -> None:
    assert KNOWN.is_open_at_end(prompt) is is_open


@pytest.mark.parametrize(
    "source",
    [
        "{{ message.content.split('</musing>')[-1] }}",
        '{{ message.content.split("</musing>")|last }}',
        "{{ '<musing>\\n' + message.reasoning_content + '\\n</musing>' }}",
        "{{ '<musing>' ~ message['thinking'] ~ '</musing>' }}",
    ],
)
def test_marks_of_a_template_count_like_those_of_the_table(source: str) -> None:
    text = "<musing>hm</musing>Hello."
    assert split_thinking(text, marks=marks_with(template_tags(source))) == Spoken("Hello.", "hm")
    assert split_thinking(text) == Spoken(text)
    assert marks_with(template_tags("{{ message.content.split('</think>') }}<b></b>")) is KNOWN


WORDS = st.text("ab \n.")
PIECES = st.lists(
    st.sampled_from(
        [
            *(mark for pair in MARKS for mark in pair),
            *(
                "<",
                "</th",
                "[/",
                "<|channel",
                "assistant",
                "Here is",
                "final",
                "`",
                '"',
                "a",
                "b ",
                " ",
                "\n",
            ),
            *("<answer>", "</answer>", "<|return|>"),
        ]
    ),
    max_size=8,
)


def streamed(pieces: Sequence[str], *, is_open: bool = False) -> tuple[Spoken, bool]:
    """Return the joined parts of all chunks, and whether the output ended inside a thought."""
    stream = SpokenStream(is_open=is_open)
    parts = [*(stream.feed(piece) for piece in pieces), stream.end()]
    whole = Spoken("".join(part.text for part in parts), "".join(part.thinking for part in parts))
    return whole, stream.is_open


@settings(deadline=None, max_examples=300)
@given(PIECES, st.lists(st.integers(0, 120)), st.booleans())
def test_reply_is_the_same_however_it_is_cut(fragments: list[str], cuts: list[int], is_open: bool) -> None:
    text = "".join(fragments)
    edges = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(edges)]
    whole = streamed([text], is_open=is_open)
    assert streamed(pieces, is_open=is_open) == whole == streamed(list(text), is_open=is_open)
    try:
        assert whole == (split_thinking(text, is_open=is_open), False)
    except UnclosedThoughtError:
        assert whole[1]


@pytest.mark.parametrize(
    "text",
    [
        "x </analysis><thinking\n|>ing>",
        "\n<| [THINK]assistantfinal。|>◁/think▷\n",
        "<think a◁think▷ing><think ab◁/think▷c",
        "<think a&lt;think&gt;|>◁think▷<think/></think>d",
    ],
)
def test_mark_within_the_beginning_of_another_is_read_the_same_however_it_is_cut(text: str) -> None:
    assert streamed(list(text), is_open=True) == streamed([text], is_open=True)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(MARKS), WORDS, st.text("ab .", min_size=1), st.integers(1, 7))
def test_no_chunk_of_a_thought_is_said(marks: tuple[str, str], thought: str, said: str, size: int) -> None:
    text = f"{marks[0]}SECRET{thought}{marks[1]}{said}"
    pieces = [text[begin : begin + size] for begin in range(0, len(text), size)]
    (spoken, is_cut), unfinished = streamed(pieces), streamed(pieces[: len(text) // size // 2])
    assert not is_cut and "SECRET" not in spoken.text and spoken.text.strip() == said.strip()
    assert "SECRET" not in unfinished[0].text


@settings(deadline=None, max_examples=200)
@given(st.text(min_size=1), st.sampled_from(MARKS), st.text())
def test_prose_that_quotes_a_mark_survives(before: str, marks: tuple[str, str], after: str) -> None:
    for mark in marks:
        text = f"The mark {before}`{mark.strip()}`{after}"
        assert split_thinking(text, is_open=False) == Spoken(text)
    text = f"He wrote the mark {marks[1].strip()} and went on."
    assert split_thinking(text) == Spoken(text)


def test_a_mark_that_comes_in_parts_waits_and_nothing_else_does() -> None:
    stream = SpokenStream()
    pieces = ["<th", "ink>\n", "h", "m\n</", "think>", "\n\n", "He", "llo < ", "<thi"]
    parts = [stream.feed(piece) for piece in pieces]
    assert [part.thinking for part in parts] == ["", "", "h", "m", "", "", "", "", ""]
    # "He" may begin "Here is my thought process:".
    assert [part.text for part in parts] == ["", "", "", "", "", "", "", "Hello < ", "<thi"]
    assert stream.end() == Spoken("")


@pytest.mark.parametrize(
    ("text", "is_open", "spoken", "is_cut"),
    [
        ("hm</think>\n\nHello.", True, Spoken("Hello.", "hm"), False),
        ("so it goes ", True, Spoken("", "so it goes"), True),
        ("<think>so", False, Spoken("", "so"), True),
        ("It seems that </thi", True, Spoken("", "It seems that </thi"), True),
        ("Well. <think>hm</think> So.", False, Spoken("Well. <think>hm</think> So."), False),
    ],
)
def test_streamed_output_is_split(text: str, is_open: bool, spoken: Spoken, is_cut: bool) -> None:
    assert streamed([text], is_open=is_open) == (spoken, is_cut)


def test_quotes_are_counted_over_the_whole_line_of_a_thought() -> None:
    # One backtick opens before the inner mark, so the next mark is quoted and only the last two end thoughts.
    text = "a ` <think> b </think>` c </think> d </think> e"
    assert split_thinking(text, is_open=True) == Spoken("e", "a `  b </think>` c  d")


def test_text_behind_an_inner_closing_mark_waits_for_the_end() -> None:
    # It is the reply if the output ends here, and a thought if a closing mark balances the first one.
    for rest, spoken in (("", Spoken("rest")), ("</think> said", Spoken("said", " rest"))):
        stream = SpokenStream(is_open=True)
        assert stream.feed("a <think> b") == Spoken("", "a  b")
        assert stream.feed(" </think> rest") == Spoken("")
        assert stream.is_open
        parts = (stream.feed(rest), stream.end())
        assert "".join(part.text for part in parts) == spoken.text
        assert "".join(part.thinking for part in parts).strip() == spoken.thinking.strip()
