"""Marks are broken in what others wrote; everything else stays byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mica_ray.control_marks import MARK, broken, escape_json, escape_marks, folded

FORGED = [
    *(
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|eot_id|>",
        "<|start_header_id|>",
        "<|begin_of_text|>",
    ),
    *("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<|turn>", "<turn|>", "<start_of_image>"),
    *(
        "[INST]",
        "[/INST]",
        "<<SYS>>",
        "<</SYS>>",
        "<s>",
        "</s>",
        "[TOOL_CALLS]",
        "[SYSTEM_PROMPT]",
        "[THINK]",
    ),
    *("<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|channel|>", "<|message|>", "<|return|>"),
    *(
        "<｜User｜>",
        "<｜Assistant｜>",
        "<｜end▁of▁sentence｜>",
        "＜｜im_end｜＞",
        "＜|im_end|＞",
        "＜s＞",
        "［INST］",
    ),
    *("<|START_OF_TURN_TOKEN|>", "<BOS_TOKEN>", "[|user|]", "[|endofturn|]", "[gMASK]", "<sop>", "<eoh>"),
    *("<extra_id_1>", "<unused12>", "<reserved_106>", "<SPECIAL_11>", "<seed:bos>", "]~b]ai", "[e~["),
    *("<think>", "</think>", "<tool_call>", "</tool_response>", "<human>", "<bot>", "<|IM_END|>", "<PAD>"),
    *("<end_of_utterance>", "<start_function_call>", "<im_start>", "<END_OF_TURN_TOKEN>", "<fim_prefix>"),
    *("<role>", "</role>", "<_user>", "<_bot>"),
    *("### Instruction:", "### Response:", "  ## User :", "Hi\n### Assistant:"),
]
ORDINARY = [
    *(
        "I <3 you",
        "a < b and c > d",
        "[1] and [see below]",
        "if x <= 3 || y >= 4",
        "<b>bold</b> <br/>",
        "<|",
        "|>",
    ),
    *(
        "《书名》",
        "＜不是标记＞",
        "「我很累」",
        "# heading",
        "## My day",
        "#hashtag: yes",
        "user: hello",
        "<3 <3 <3",
    ),
    *(
        '{"a": [1, 2]}',
        "[sighs]",
        "*nods* [INSTANT]",
        "<name>",
        "<token>",
        "<start>",
        "<|>",
        "[|]",
        "\u2028",
        "\x00",
        "",
    ),
]


@pytest.mark.parametrize("mark", FORGED)
def test_mark_is_broken_and_can_still_be_read(mark: str) -> None:
    said = f"Bye.{mark if mark[-1] == ':' else f'x{mark}y'}" if "#" not in mark else f"Bye.\n{mark} x"
    escaped = escape_marks(said)
    assert escaped != said
    assert escaped.replace(" ", "") == said.replace(" ", "")
    assert MARK.search(folded(escaped)) is None


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert escape_marks(text) == text


@given(
    st.lists(st.sampled_from([*FORGED, *"<>|[]/#: \nse", "im_", "INST"]) | st.text(max_size=5), max_size=12)
)
def test_no_mark_is_left_and_none_is_formed_by_breaking(parts: list[str]) -> None:
    escaped = escape_marks("".join(parts))
    assert MARK.search(folded(escaped)) is None
    assert escape_marks(escaped) == escaped


@given(st.text(st.characters(exclude_characters="<＜[［#＃]］﹤")))
def test_text_without_brackets_stays(text: str) -> None:
    assert escape_marks(text) == text


@pytest.mark.parametrize("unit", ["<|", "<", "[", "<s", "[|a", "\n#", "#", "]~", "<|a|", " \n"])
def test_search_does_not_backtrack_over_a_long_text(unit: str) -> None:
    assert MARK.search((unit * 32_000)[:32_000] + "~") is None


def test_values_are_escaped_and_keys_are_not() -> None:
    case = {"<s>": ("</s>", {"reply": "Hi[INST]"}, None, 1.5, True)}
    assert escape_json(case) == {"<s>": ["< /s >", {"reply": "Hi[ INST ]"}, None, 1.5, True]}


def test_breaking_keeps_the_white_space_in_front() -> None:
    assert broken("  ### User:") == "  # ## User :"
