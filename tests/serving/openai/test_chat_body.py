"""The body of a chat completion: null means absent, unknown is ignored, an error names the field at fault."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.json_body import UnknownFields
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.openai.chat_body import ChatBody, read_chat_body
from mica_ray.types import ReplyOptions

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "find_help", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"mood": {"type": "integer"}}, "required": ["mood"]}


def read(**fields: Any) -> ChatBody:
    # json.dumps escapes lone surrogates, as a client of another language may send them.
    return read_chat_body(json.dumps({"messages": HELLO, **fields}).encode(), ServeSettings())


def refused(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        read(**fields)
    assert error.value.status == 400
    return error.value


OPTIONAL = [
    "audio",
    "chat_template_kwargs",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "min_p",
    "modalities",
    "model",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
    "some_field_of_next_year",
]


@pytest.mark.parametrize("name", OPTIONAL)
def test_null_means_absent(name: str) -> None:
    assert read(**{name: None}) == read()


@pytest.mark.parametrize(
    "fields",
    [
        {"stream_options": {"include_usage": None}},
        {"stream_options": {"include_usage": None, "include_obfuscation": None, "next": None}},
        {"response_format": {"type": "text", "json_schema": None}},
        {"tools": [], "tool_choice": None},
        {"metadata": {"locale": None}},
        {"chat_template_kwargs": {"enable_thinking": None}},
        {"max_tokens": -1},
        {"max_completion_tokens": -1, "max_tokens": None},
        {"stop": []},
        {"top_k": -1},
        {"logit_bias": {}},
        {"n": 1.0},
    ],
    ids=str,
)
def test_these_fields_request_nothing(fields: dict[str, Any]) -> None:
    assert read(**fields) == read()


HISTORIES = [
    [{"role": "assistant", "content": None}],
    [{"role": "assistant"}],
    [{"role": "assistant", "content": "Oh.", "tool_calls": []}],
    [{"role": "assistant", "content": "Oh.", "tool_calls": None, "function_call": None, "audio": None}],
    [{"role": "assistant", "content": None, "refusal": "I cannot."}],
    [{"role": "assistant", "content": "Oh.", "annotations": [], "reasoning_content": "Hm."}],
    [{"role": "assistant", "content": [{"type": "text", "text": "O"}, {"type": "refusal", "refusal": "h."}]}],
    [{"role": "system", "content": "Be kind.", "name": "operator"}],
    [{"role": "developer", "content": [{"type": "text", "text": "Be kind."}]}],
    [{"role": "user", "content": "", "name": None}],
    [{"role": "user", "content": "hi", "field_of_next_year": {"a": [1]}}],
]


@pytest.mark.parametrize("history", HISTORIES, ids=str)
def test_histories_that_clients_send_back_are_accepted(history: list[dict[str, Any]]) -> None:
    request = read(messages=[*history, *HELLO]).request
    assert len(request.messages) == len(history) + 1
    assert request.messages[-1] == HELLO[0]
    assert request.tool_use is None


def test_a_content_is_the_text_of_its_parts_and_a_refusal_counts_as_text() -> None:
    texts = [read(messages=[*HISTORIES[index], *HELLO]).request.messages[0]["content"] for index in (4, 6, 8)]
    assert texts == ["I cannot.", "Oh.", "Be kind."]


AT_FAULT = [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": [None]}, "messages[0]"),
    ({"messages": [*HELLO, {"role": "robot", "content": "hi"}]}, "messages[1].role"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role"),
    ({"messages": [{"role": None, "content": "hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [*HELLO, {"role": "user", "content": [{"type": "text"}]}]}, "messages[1].content[0].text"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]},
        "messages[0].content[1].type",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": "a" * 40_000}]}, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": "a", "tool_calls": [{}]}]},
        "messages[0].tool_calls[0].function",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        "messages[0].tool_calls[0].function.arguments",
    ),
    ({"messages": [{"role": "tool", "content": "42"}]}, "messages"),
    ({"model": 5}, "model"),
    ({"stream": "later"}, "stream"),
    ({"stream_options": True}, "stream_options"),
    ({"stream_options": {"include_usage": "later"}}, "stream_options.include_usage"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -2}, "max_tokens"),
    ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
    ({"n": 0}, "n"),
    ({"n": 17}, "n"),
    ({"temperature": -0.001}, "temperature"),
    ({"temperature": 2.001}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.001}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"min_p": 1.001}, "min_p"),
    ({"presence_penalty": -2.001}, "presence_penalty"),
    ({"frequency_penalty": 2.001}, "frequency_penalty"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"repetition_penalty": 10.001}, "repetition_penalty"),
    ({"seed": 2**63}, "seed"),
    ({"seed": -(2**63) - 1}, "seed"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a" * 257]}, "stop"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"stop": [1]}, "stop[0]"),
    ({"logit_bias": {"word": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"logit_bias": [5]}, "logit_bias"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"metadata": "a"}, "metadata"),
    ({"metadata": {"locale": 5}}, "metadata.locale"),
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "set"}}}},
        "response_format.json_schema.schema",
    ),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [TOOL, {"type": "function"}]}, "tools[1].function"),
    ({"tools": [{"function": {"name": "no spaces"}}]}, "tools[0].function.name"),
    ({"tools": [{"function": {"name": "f", "parameters": {"items": 5}}}]}, "tools[0].function.parameters"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "custom", "function": {"name": "f"}}}, "tool_choice.type"),
    ({"tools": [TOOL], "tool_choice": {"function": {"name": "g"}}}, "tool_choice"),
    ({"chat_template_kwargs": {"chat_template": "x"}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"tools": True}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"date": "<|im_end|>"}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"date": "a\nb"}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"a b": 1}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"a": [1]}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"a": 2**53}}, "chat_template_kwargs"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"modalities": ["text", "audio"]}, "modalities"),
]


@pytest.mark.parametrize(("fields", "param"), AT_FAULT, ids=lambda value: str(value)[:60])
def test_the_error_names_the_field_at_fault(fields: dict[str, Any], param: str) -> None:
    error = refused(**fields)
    assert error.param == param
    assert param in str(error)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 16},
        {"temperature": 0},
        {"temperature": 2},
        {"top_p": 1},
        {"top_p": 1e-9},
        {"min_p": 0},
        {"min_p": 1},
        {"presence_penalty": -2},
        {"frequency_penalty": 2},
        {"repetition_penalty": 0.1},
        {"repetition_penalty": 10},
        {"seed": 2**63 - 1},
        {"seed": -(2**63)},
        {"max_tokens": 1},
        {"max_tokens": 10**30},
        {"top_k": 10**30},
        {"stop": ["a" * 256] * 16},
        {"logit_bias": {"5": 100, "6": -100}},
        {"logprobs": True, "top_logprobs": 20},
        {"logprobs": True, "top_logprobs": 0},
        {"top_logprobs": 0},
        {"chat_template_kwargs": {"a": 2**53 - 1, "b": "x" * 64, "c": True, "d": 0.5}},
        {"tools": [TOOL], "tool_choice": "required"},
        {"modalities": ["text"]},
    ],
    ids=lambda value: str(value)[:60],
)
def test_values_at_a_limit_are_accepted(fields: dict[str, Any]) -> None:
    read(**fields)


def test_the_options_reach_the_request() -> None:
    body = read(
        n=3,
        stream=True,
        stream_options={"include_usage": True},
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.2,
        top_k=40,
        min_p=0.1,
        logit_bias={"7": -1.5, "3": 2},
        logprobs=True,
        top_logprobs=4,
        response_format={"type": "json_schema", "json_schema": {"name": "mood", "schema": SCHEMA}},
        chat_template_kwargs={"enable_thinking": False},
        reasoning_effort="low",
        stop="\n",
        max_completion_tokens=9,
    )
    assert (body.num_choices, body.includes_usage) == (3, True)
    assert body.request.options == ReplyOptions(
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.2,
        top_k=40,
        min_p=0.1,
        logit_bias=((3, 2.0), (7, -1.5)),
        top_logprobs=4,
        schema=SCHEMA,
    )
    assert body.request.template_arguments == {"enable_thinking": False, "reasoning_effort": "low"}
    assert (body.request.sampling.stop, body.request.sampling.max_tokens) == (("\n",), 9)


def test_a_json_object_is_any_object_and_text_is_none() -> None:
    schemas = [
        read(response_format={"type": kind}).request.options.schema for kind in ("json_object", "text")
    ]
    assert schemas == [{"type": "object"}, None]


def test_tools_and_their_results_reach_the_request() -> None:
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "find_help", "arguments": '{"city": "Graz"}'},
    }
    messages = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}]
    messages.append({"role": "tool", "tool_call_id": "c1", "content": "116 123"})
    request = read(messages=messages, tools=[TOOL]).request
    assert request.tool_use is not None
    assert request.tool_use.messages[1]["tool_calls"] == [
        {**call, "function": {"name": "find_help", "arguments": {"city": "Graz"}}}
    ]
    assert request.tool_use.messages[2] == {"role": "tool", "tool_call_id": "c1", "content": "116 123"}
    # The care check reads what the user wrote; the result of a tool does not hide it.
    assert [message["role"] for message in request.messages] == ["user", "assistant"]
    silent = read(messages=messages, tools=[TOOL], tool_choice="none").request.tool_use
    assert silent is not None and silent.tools == () and silent.param == "messages[1]"


def test_a_forced_call_has_the_schema_of_its_function() -> None:
    other = {"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}}
    named = read(tools=[TOOL, other], tool_choice={"type": "function", "function": {"name": "other"}})
    schema = named.request.options.schema
    assert schema is not None and schema["properties"]["name"] == {"enum": ["other"]}  # type: ignore[index]
    required = read(tools=[TOOL, other], tool_choice="required").request.options.schema
    assert required is not None and len(required["anyOf"]) == 2  # type: ignore[arg-type]
    assert read(tools=[TOOL], tool_choice="auto").request.options.schema is None


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_refused(constant: str) -> None:
    content = json.dumps({"messages": HELLO})[:-1] + f', "temperature": {constant}}}'
    with pytest.raises(ApiError, match="not valid JSON"):
        read_chat_body(content.encode(), ServeSettings())


def test_an_unknown_field_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        read(field_of_2031={"a": 1}, messages=[{"role": "user", "content": "a", "field_of_2032": 1}])
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) == 2
    assert "field_of_2031" in logged[0] and "messages[].field_of_2032" in logged[1]


def test_the_names_of_unknown_fields_are_bounded_and_no_text_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    noted = UnknownFields(limit=3)
    noted.note("", {"I lost my job", "a" * 41, "täglich", "b\n", "7"})
    assert len(caplog.records) == 1 and "job" not in caplog.text
    noted.note("", {f"field{number}" for number in range(10)})
    assert len(caplog.records) == 3


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
"""All of Unicode, lone surrogates included."""


@settings(deadline=None, max_examples=150)
@given(said=ANY_TEXT, stop=ANY_TEXT.filter(bool), name=ANY_TEXT)
def test_every_text_enters_as_valid_unicode(said: str, stop: str, name: str) -> None:
    body = read(
        messages=[{"role": "user", "content": [{"type": "text", "text": said}], "name": name}],
        stop=[stop],
        user=name,
        metadata={name: name},
        **{f"x{name}": name},
    )
    request = body.request
    for text in (request.messages[0]["content"], *request.sampling.stop):
        text.encode()
    if said.isascii():
        assert request.messages[0]["content"] == said


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    request = read(
        messages=[{"role": "user", "content": "sad \ud83d"}], stop=["\udfff", "\ud83d\ude22"]
    ).request
    assert request.messages[0]["content"] == "sad \ufffd"
    assert request.sampling.stop == ("\ufffd", "😢")
