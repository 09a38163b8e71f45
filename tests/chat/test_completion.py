"""Answers of endpoints: strict about the text, tolerant about everything else."""

from __future__ import annotations

import json

import pytest

from mica_ray.chat.completion import read_reply, read_usage
from mica_ray.chat.model import ChatError, ChatReply
from mica_ray.secrets import checked_key


def read(message: object, **choice: object) -> ChatReply:
    body = {"choices": [{"message": message, **choice}]}
    return read_reply(json.dumps(body).encode(), model="asked", endpoint="there")


CONTENTS: dict[str, object] = {
    "text": "hello",
    "part": {"type": "text", "text": "hello"},
    "parts": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}],
    "output_text": [{"type": "output_text", "text": "hello", "annotations": []}],
    "texts": ["hel", "lo"],
    "untyped": [{"text": "hello"}],
    "value": [{"type": "text", "text": {"value": "hello", "annotations": []}}],
    "unknown parts": [{"type": "image_url", "image_url": {}}, 7, None, [], {"type": "text", "text": "hello"}],
    "nested parts": [[{"type": "text", "text": "hello"}]],
    "content in a part": [{"type": "text", "content": "hello"}],
    "parts in an object": {"parts": [{"text": "hello"}]},
    "capital type": [{"type": "Text", "text": "hello"}],
    "input_text": [{"type": "input_text", "text": "hello"}],
    "null type": [{"type": None, "text": "hello"}],
    "reasoning text": [{"type": "reasoning_text", "text": "hm"}, {"type": "text", "text": "hello"}],
    "null text": [{"type": "text", "text": None}, {"type": "text", "text": "hello"}],
    "thoughts": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hello"}],
    "chunks": [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "hello"},
    ],
    "reasoning": [{"type": "reasoning", "summary": [{"text": "hm"}]}, {"type": "text", "text": "hello"}],
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_text_is_found_in_any_content(content: object) -> None:
    reply = read({"role": "assistant", "content": content})
    assert (reply.text, reply.model) == ("hello", "asked")
    assert reply.thinking in ("", "hm")


@pytest.mark.parametrize(
    "reasoning",
    [
        {"reasoning_content": "hm"}, {"reasoning": "hm"}, {"thinking": "hm"}, {"reasoning": {"text": "hm"}},
        {"reasoning": {"content": "hm"}}, {"reasoning": ["h", "m"]}, {"reasoning": [{"text": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]},
        {"reasoning_content": None, "reasoning": "hm"},
    ],
)  # fmt: skip
def test_reasoning_of_any_shape_is_kept_apart(reasoning: dict[str, object]) -> None:
    reply = read({"content": "hello", **reasoning})
    assert (reply.text, reply.thinking) == ("hello", "hm")
    with pytest.raises(ChatError, match=r"wrote only its reasoning\. Raise max_tokens"):
        read({"content": None, **reasoning}, finish_reason="stop")


@pytest.mark.parametrize("reasoning", [7, True, {"tokens": 3}, [None], {}])
def test_reasoning_without_text_is_none(reasoning: object) -> None:
    assert read({"content": "hello", "reasoning": reasoning}).thinking == ""


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("stop", "stop"), ("STOP", "stop"), ("end_turn", "stop"), ("eos", "stop"), ("eos_token", "stop"),
        ("stop_sequence", "stop"), ("FinishReason.STOP", "stop"), ("length", "length"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"), ("FINISH_REASON_MAX_TOKENS", "length"), ("model_length", "length"),
        ("content_filter", "content_filter"), ("SAFETY", "content_filter"), ("refusal", "content_filter"),
        ("tool_calls", None), ("weird", None), ("", None), (None, None), (7, None), ({}, None),
    ],
)  # fmt: skip
def test_finish_reason_is_translated(told: object, reason: str | None) -> None:
    assert read({"content": "hello"}, finish_reason=told).finish_reason == reason


def test_missing_finish_reason_is_none_and_a_native_one_is_read() -> None:
    assert read({"content": "hello"}).finish_reason is None
    assert (
        read({"content": "hello"}, finish_reason=None, native_finish_reason="MAX_TOKENS").finish_reason
        == "length"
    )


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, (0, 0)), ({}, (0, 0)), ([], (0, 0)), ("7", (0, 0)), (7, (0, 0)),
        ({"prompt_tokens": 7, "completion_tokens": 3}, (7, 3)),
        ({"prompt_tokens": 6.2, "completion_tokens": 3.0}, (7, 3)),
        ({"prompt_tokens": "7", "completion_tokens": "3.0"}, (7, 3)),
        ({"prompt_tokens": -1, "completion_tokens": 3}, (0, 3)),
        ({"prompt_tokens": None, "completion_tokens": 3}, (0, 3)),
        ({"prompt_tokens": None, "completion_tokens": 3, "total_tokens": 10}, (7, 3)),
        ({"prompt_tokens": 7, "total_tokens": 10}, (7, 3)),
        ({"prompt_tokens": 7, "total_tokens": 5}, (7, 0)),
        ({"input_tokens": 7, "output_tokens": 3}, (7, 3)),
        ({"prompt_tokens": True, "completion_tokens": [3]}, (0, 0)),
        ({"prompt_tokens": "many", "completion_tokens": float("nan")}, (0, 0)),
        ({"prompt_tokens": float("inf"), "completion_tokens": 10**400}, (0, 0)),
        ({"prompt_tokens": 10**9, "completion_tokens": 10**9 + 1}, (10**9, 0)),
    ],
)  # fmt: skip
def test_usage_is_booked_as_far_as_it_is_known(usage: object, tokens: tuple[int, int]) -> None:
    read_tokens = read_usage(usage)
    assert (read_tokens.prompt_tokens, read_tokens.completion_tokens) == tokens


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({"content": None, "refusal": "I will not."}, "the model refused: I will not."),
        ({"content": [{"type": "refusal", "refusal": "I will not."}]}, "the model refused: I will not."),
        ({"content": None, "tool_calls": [{"function": {}}]}, "called a tool"),
        ({"content": ""}, r"empty \(finish reason none\)"),
        ({"content": "  \n"}, r"empty \(finish reason none\)"),
        ({"content": []}, "empty"),
        ({"content": 7}, "empty"),
        (None, "empty"),
        ({}, "empty"),
    ],
)
def test_answer_without_text_says_why(message: object, problem: str) -> None:
    with pytest.raises(ChatError, match=problem) as caught:
        read(message)
    assert caught.value.kind == "content"


@pytest.mark.parametrize(
    "body", ['{"choices": null}', '{"choices": {}}', '{"choices": [7]}', "7", '{"a": 1}', ""]
)
def test_what_is_no_completion_shows_its_beginning(body: str) -> None:
    with pytest.raises(ValueError, match="there is no message in it, which begins: "):
        read_reply(body.encode(), model="m", endpoint="e")


def test_invalid_text_becomes_valid() -> None:
    body = (
        b' \n {"model": "m\\ud800", "choices": [{"message": {"content": "a\\ud83d b\xff \\ud83d\\ude22"}}]}'
    )
    reply = read_reply(body, model="m", endpoint="e")
    assert (reply.text, reply.model) == ("a\ufffd b\ufffd \U0001f622", "m\ufffd")


def test_endpoint_that_repeats_the_key_does_not_get_it_into_the_dialogue() -> None:
    key = checked_key("sk-live-0123456789ab", "K")
    reply = read({"content": f"You sent {key}.", "reasoning": f"I saw {key}"})
    assert (reply.text, reply.thinking) == ("You sent [redacted].", "I saw [redacted]")
    # A part of a key may be ordinary text.
    assert read({"content": key[:15]}).text == key[:15]
