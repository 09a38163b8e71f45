"""What endpoints say in errors, in every shape: shown in one line, and classified."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mica_ray.chat.error_body import read_error
from mica_ray.chat.model import ChatError, ErrorKind
from mica_ray.chat.openai_api import OpenAIChat
from mica_ray.secrets import checked_key
from mica_ray.types import Sampling
from tests.chat.local_endpoint import Answer, LocalEndpoint
from tests.chat.test_openai_api import MESSAGES, endpoint, failure

SAYS_NO: dict[str, str | bytes] = {
    "object": '{"error": {"message": "no room left", "type": "t", "code": null}}',
    "text": '{"error": "no room left"}',
    "detail": '{"detail": "no room left"}',
    "detail list": '{"detail": [{"loc": ["body", "x"], "msg": "no room left", "type": "value_error"}]}',
    "list of errors": '[{"error": {"code": 400, "message": "no room left", "status": "INVALID_ARGUMENT"}}]',
    "message": '{"message": "no room left"}',
    "capital letters": '{"Error": {"Message": "no room left"}}',
    "error_msg": '{"error_code": 17, "error_msg": "no room left"}',
    "base response": '{"base_resp": {"status_code": 1002, "status_msg": "no room left"}}',
    "fault": '{"fault": {"faultstring": "no room left", "detail": {"errorcode": "x"}}}',
    "xml": '<?xml version="1.0"?><Error><Code>Full</Code><Message>no room left</Message></Error>',
    "message object": '{"message": {"detail": [{"msg": "no room left"}]}}',
    "nested": '{"type": "error", "error": {"type": "invalid_request_error", "message": "no room left"}}',
    "errors": '{"errors": [{"title": "no room left"}]}',
    "description": '{"error_description": "no room left"}',
    "error and message": '{"error": true, "message": "no room left"}',
    "json text": '"no room left"',
    "unknown fields": '{"x": {"y": "no room left"}}',
    "plain": "no room left",
    "lines": "no\r\n  room\u2028left\x00",
    "html": "<!DOCTYPE html><html><head><style>p {}</style></head><body><h1>no room&nbsp;left</h1></body>",
    "html in json": '{"error": "<html><body>no room left</body></html>"}',
    "broken json": '{"error": {"message": "no room left',
    "latin-1": "no room left: d\xe9j\xe0".encode("latin-1"),
    "byte order mark": b'\xef\xbb\xbf{"error": "no room left"}',
    "gateway": json.dumps(
        {"error": {"message": "upstream", "metadata": {"raw": '{"error": "no room left"}'}}}
    ),
    "half a pair": '{"error": "no room left \\ud83d"}',
    "white space": '   \n\n  {"error": "no room left"}',
}


@pytest.mark.parametrize("body", SAYS_NO.values(), ids=SAYS_NO)
async def test_error_shows_what_the_endpoint_says(body: str | bytes) -> None:
    async with LocalEndpoint(Answer(status=400, body=body)) as server:
        error = await failure(server)
    assert error.kind == "refused"
    assert "status 400: " in str(error) and "no room left" in str(error)
    assert str(error).isprintable()
    str(error).encode()


@pytest.mark.parametrize("body", ["", "  \n", "{}", "[]", "null", '""'])
async def test_error_without_words_is_called_empty(body: str) -> None:
    async with LocalEndpoint(Answer(status=500, body=body)) as server:
        error = await failure(server, attempts=1)
    assert "status 500: an empty body" in str(error)


async def test_long_error_is_cut() -> None:
    async with LocalEndpoint(Answer(status=400, body="no room " * 5000)) as server:
        error = await failure(server)
    assert 300 < len(str(error)) < 500 and "no room no room" in str(error) and "…" in str(error)


@pytest.mark.parametrize("body", ["[" * 9000, '{"a":' * 9000, '{"error": {"error": ' * 30 + "1" + "}" * 60])
def test_deep_error_is_read(body: str) -> None:
    assert len(read_error(body.encode(), 400).said) <= 300


INSIDE_200: list[tuple[object, ErrorKind]] = [
    ({"error": {"code": 429, "message": "m"}}, "infrastructure"),
    ({"error": {"code": "503", "message": "m"}}, "infrastructure"),
    ({"error": {"code": 502, "message": "m"}, "choices": []}, "infrastructure"),
    ({"error": {"code": 408, "message": "m"}}, "infrastructure"),
    ({"error": {"type": "overloaded_error", "message": "m"}}, "infrastructure"),
    ({"error": {"message": "m"}}, "infrastructure"),
    ({"error": "m"}, "infrastructure"),
    ([{"error": {"code": 503, "message": "m"}}], "infrastructure"),
    ({"object": "error", "message": "m", "code": 500}, "infrastructure"),
    ({"choices": [{"error": {"code": 502, "message": "m"}}]}, "infrastructure"),
    ({"choices": [{"error": {"message": "m"}, "message": {"content": "half"}}]}, "infrastructure"),
    ({"choices": [{"message": {"content": "half"}, "finish_reason": "error"}]}, "infrastructure"),
    ({"choices": [{"message": {"content": "half"}, "finish_reason": "abort"}]}, "infrastructure"),
    ({"error": {"code": 400, "message": "m"}}, "refused"),
    ({"error": {"code": 401, "message": "m"}}, "refused"),
    ({"error": {"code": 402, "message": "m"}}, "refused"),
    ({"error": {"code": "404", "message": "m"}}, "refused"),
    ({"error": {"type": "invalid_request_error", "message": "m"}}, "refused"),
    ({"error": {"code": "insufficient_quota", "message": "m"}}, "refused"),
    ({"choices": [{"error": {"code": 403, "message": "m"}}]}, "refused"),
    ({"detail": "m", "code": 422}, "refused"),
    ({"code": 401, "msg": "m"}, "refused"),
    ({"message": "m", "choices": None}, "infrastructure"),
    ({"success": False, "errors": [{"message": "m"}]}, "infrastructure"),
    ({"status": "error", "message": "m"}, "infrastructure"),
    ({"error": {"code": "rate_limit_exceeded", "message": "m"}}, "infrastructure"),
    ({"error": {"code": "content_filter", "message": "m"}}, "content"),
    ({"choices": [{"message": {"content": "", "error": {"code": 502, "message": "m"}}}]}, "infrastructure"),
    ({"base_resp": {"status_code": 1002, "status_msg": "m"}, "choices": None}, "infrastructure"),
    ({"error_code": 17, "error_msg": "m"}, "infrastructure"),
    ({"Error": {"Message": "m", "Code": "401"}}, "refused"),
]


@pytest.mark.parametrize(("body", "kind"), INSIDE_200, ids=lambda value: str(value)[:60])
async def test_error_inside_status_200_is_classified_by_its_code(body: object, kind: ErrorKind) -> None:
    async with LocalEndpoint(Answer(body=json.dumps(body))) as server:
        error = await failure(server)
    assert error.kind == kind
    assert len(server.requests) == (3 if kind == "infrastructure" else 1)


async def test_errors_inside_status_200_open_the_breaker() -> None:
    body = json.dumps({"choices": [{"error": {"code": 503, "message": "down"}}]})
    async with LocalEndpoint(Answer(body=body)) as server:
        chat = OpenAIChat(endpoint(server, attempts=1, breaker_failures=2, breaker_pause_seconds=60.0), "key")
        for _ in range(3):
            with pytest.raises(ChatError) as caught:
                await chat.chat(MESSAGES, Sampling())
    assert len(server.requests) == 2
    assert "paused after 2 consecutive failures" in str(caught.value)


async def test_empty_error_next_to_an_answer_is_none() -> None:
    for error in (None, {}, "", False, {"code": None, "message": None}, {"code": 0, "message": ""}):
        body = json.dumps({"error": error, "choices": [{"message": {"content": "hi"}, "error": {}}]})
        async with LocalEndpoint(Answer(body=body)) as server:
            assert (await OpenAIChat(endpoint(server), "key").chat(MESSAGES, Sampling())).text == "hi"


async def test_tokens_of_all_attempts_are_in_the_error() -> None:
    body = json.dumps({"error": {"code": 500}, "usage": {"prompt_tokens": 5, "completion_tokens": 2}})
    async with LocalEndpoint(Answer(body=body)) as server:
        error = await failure(server)
    assert (error.prompt_tokens, error.completion_tokens) == (15, 6)  # three attempts


async def test_reply_after_an_unusable_attempt_costs_both() -> None:
    bad = json.dumps({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})
    async with LocalEndpoint(Answer(body=bad), Answer("hi")) as server:
        reply = await OpenAIChat(endpoint(server), "key").chat(MESSAGES, Sampling())
    assert (reply.prompt_tokens, reply.completion_tokens) == (12, 5)


REJECTIONS = [
    ("temperature", {"error": {"message": "no", "param": "temperature"}}, 'omit=["temperature"]'),
    ("seed", {"error": "Unknown parameter: seed"}, 'omit=["seed"]'),
    ("seed", {"error": "Use random_seed, not seed"}, 'rename={"seed": "random_seed"}'),
    ("stop", {"detail": [{"loc": ["body", "stop"], "msg": "no"}]}, 'omit=["stop"]'),
    (
        "max_tokens",
        {"error": "max_tokens: use max_completion_tokens"},
        'token_limit_name="max_completion_tokens"',
    ),
    ("response_format", {"error": "`response_format` unknown"}, 'structured_output="json_object"'),
    (
        "extra",
        {"error": {"param": "extra.inner", "message": "no"}},
        "Remove extra from the endpoint's extra_body",
    ),
    (
        "response_format",
        {"error": "No response format `json_schema` here"},
        'structured_output="json_object"',
    ),
    (
        "response_format",
        {"error": "Structured outputs need a newer version"},
        'structured_output="json_object"',
    ),
    ("max_tokens", {"error": "max_tokens is too large: 1024"}, "Lower roles.max_tokens"),
    (
        "max_tokens",
        {"error": "max_tokens or max_completion_tokens is too large: 9"},
        "Lower roles.max_tokens",
    ),
    ("max_tokens", {"error": "max_tokens must be at most 256"}, "Lower roles.max_tokens"),
    ("nothing", {"error": "The prompt is too long"}, "Check its message"),
]


@pytest.mark.parametrize(("name", "body", "remedy"), REJECTIONS)
async def test_rejected_field_names_the_setting(name: str, body: object, remedy: str) -> None:
    async with LocalEndpoint(Answer(status=400, body=json.dumps(body))) as server:
        at = replace(endpoint(server), extra_body={"extra": {"inner": 1}})
        with pytest.raises(ChatError) as caught:
            await OpenAIChat(at, "key").chat(
                MESSAGES, Sampling(0.5, 0.9, seed=1, stop=("x",)), {"type": "object"}
            )
    assert remedy in str(caught.value)


@pytest.mark.parametrize(("length", "shown"), [(299, 299), (300, 300), (301, 300), (5000, 300)])
def test_line_is_cut_at_three_hundred_characters(length: int, shown: int) -> None:
    said = read_error(b"x" * length, 400).said
    assert len(said) == shown
    assert said.endswith("…") == (length > 300)


def test_half_a_key_at_the_cut_is_redacted_first() -> None:
    key = checked_key("sk-cut-0123456789abcdef", "K")
    said = read_error(("x" * 280 + " " + key).encode(), 400).said
    assert said == "x" * 280 + " [redacted]"
