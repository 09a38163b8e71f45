"""Calls of functions are found in the forms that model families write, wherever the text is cut."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mica_ray.serving.http.backend import FunctionCall
from mica_ray.serving.openai.tool_calls import ToolCallParser

NAMES = ("find_help", "call")
ARGUMENTS = {"city": "Graz", "note": 'a "b" </think> {x}'}
CALL = json.dumps({"name": "find_help", "arguments": ARGUMENTS})
LLAMA = json.dumps({"name": "find_help", "parameters": ARGUMENTS})
AS_TEXT = json.dumps({"name": "find_help", "arguments": json.dumps(ARGUMENTS)})
BARE = json.dumps(ARGUMENTS)


def parsed(pieces: list[str]) -> tuple[str, list[FunctionCall]]:
    parser = ToolCallParser(NAMES)
    text, calls = "", list[FunctionCall]()
    for piece in pieces:
        more, found = parser.feed(piece)
        text, calls = text + more, [*calls, *found]
    more, found = parser.end()
    return text + more, [*calls, *found]


CALLS = [
    (f"<tool_call>\n{CALL}\n</tool_call>", "", 1),
    (f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", "", 2),
    (f"I will look.\n<tool_call>{CALL}</tool_call>", "I will look.\n", 1),
    (f"<tool_call>{CALL}</tool_call>Wait.", "Wait.", 1),
    (f"<tool_call>{CALL}", "", 1),
    (f"<tool_call>{LLAMA}</tool_call>", "", 1),
    (f"<tool_call>{AS_TEXT}</tool_call>", "", 1),
    (CALL, "", 1),
    (LLAMA, "", 1),
    (f"  \n{LLAMA}\n", "", 1),
    (f"[{CALL}, {CALL}]", "", 2),
    (f"[TOOL_CALLS][{CALL}]", "", 1),
    (f"[TOOL_CALLS] [{CALL}]", "", 1),
    (f"find_help[ARGS]{BARE}", "", 1),
    (f"find_help{BARE}", "", 1),
    (f"<function=find_help>{BARE}</function>", "", 1),
]


@pytest.mark.parametrize(("text", "rest", "num_calls"), CALLS, ids=lambda value: str(value)[:40])
def test_a_call_is_found(text: str, rest: str, num_calls: int) -> None:
    shown, calls = parsed([text])
    assert shown.strip() == rest.strip()
    assert [call.name for call in calls] == ["find_help"] * num_calls
    assert all(json.loads(call.arguments) == ARGUMENTS for call in calls)
    assert len({call.id for call in calls}) == num_calls


TEXTS = [
    "I lost my job.",
    "",
    " ",
    "{",
    '{"mood": 3}',
    "[1, 2]",
    "[sad] What now?",
    '{"name": "other", "arguments": {}}',
    '{"name": "find_help", "arguments": [1]}',
    '{"name": 5}',
    "<tool_call>not JSON</tool_call>",
    "<tool_call>",
    "<tool",
    "a < b and b <to c",
    '<tool_call>{"name": "other"}</tool_call> after',
    "find_help is a good idea",
    "find_help",
    "call me {soon}",
    "<function=other>{}</function>",
    "[TOOL_CALLS]",
    "The answer is " + CALL,
    "nul \0 and line\u2028separator 😢",
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda value: repr(value)[:40])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert parsed([text]) == (text, [])
    assert parsed(list(text)) == (text, [])


@pytest.mark.parametrize(
    "text", [*(text for text, _, _ in CALLS), *TEXTS], ids=lambda value: repr(value)[:40]
)
def test_no_single_cut_changes_anything(text: str) -> None:
    whole, expected = parsed([text])
    for cut in range(1, len(text)):
        shown, calls = parsed([text[:cut], text[cut:]])
        assert shown == whole, cut
        assert [(call.name, call.arguments) for call in calls] == [(c.name, c.arguments) for c in expected]


@given(st.sampled_from([text for text, _, _ in CALLS] + TEXTS), st.sets(st.integers(1, 200)))
def test_the_cuts_between_pieces_change_nothing(text: str, cuts: set[int]) -> None:
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    shown, calls = parsed([text[begin:end] for begin, end in pairwise(places)])
    whole, expected = parsed([text])
    assert shown == whole
    assert [(call.name, call.arguments) for call in calls] == [(c.name, c.arguments) for c in expected]


def test_plain_text_is_not_held_back() -> None:
    parser = ToolCallParser(NAMES)
    assert parser.feed("That ") == ("That ", ())
    assert parser.feed("is <") == ("is ", ())
    assert parser.feed("3") == ("<3", ())
