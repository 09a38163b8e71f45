"""/v1/responses with OpenAI's client: what a response contains, and its events."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.backend import BackendError
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.openai.response_body import ResponseBody, read_response_body
from mica_ray.serving.web_app import create_app
from tests.serving.local_service import served
from tests.serving.official_client import client_of
from tests.serving.scripted_backend import ScriptedBackend

TOOL: Any = {"type": "function", "name": "find_help", "parameters": {"type": "object"}, "strict": False}
CALL = '<tool_call>{"name": "find_help", "arguments": {"city": "Graz"}}</tool_call>'


def read(**fields: Any) -> ResponseBody:
    return read_response_body(json.dumps({"input": "hello", **fields}).encode(), ServeSettings())


NULLS = (
    "background chat_template_kwargs conversation include instructions max_output_tokens metadata model "
    "parallel_tool_calls previous_response_id prompt reasoning seed store stream stream_options temperature "
    "text tool_choice tools top_logprobs top_p truncation user field_of_next_year"
)


@pytest.mark.parametrize("name", NULLS.split())
def test_null_means_absent(name: str) -> None:
    assert read(**{name: None}) == read()


def test_every_form_of_input_becomes_messages() -> None:
    items = [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": None},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "Hi.", "annotations": [], "logprobs": []}]},
        {"role": "user", "content": "I am ill."},
    ]  # fmt: skip
    request = read(instructions="Short.", input=items).request
    assert [(message["role"], message["content"]) for message in request.messages] == [
        ("system", "Short."),
        ("system", "Be kind."),
        ("user", "hello"),
        ("assistant", "Hi."),
        ("user", "I am ill."),
    ]
    assert request.tool_use is None


def test_calls_and_their_results_become_one_exchange() -> None:
    items = [
        {"role": "user", "content": "hello"},
        {"type": "function_call", "call_id": "a", "name": "find_help", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "find_help", "arguments": '{"x": 1}'},
        {"type": "function_call_output", "call_id": "a", "output": "116 123"},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "none"}]},
    ]
    use = read(input=items, tools=[TOOL]).request.tool_use
    assert use is not None
    assert [message["role"] for message in use.messages] == ["user", "assistant", "tool", "tool"]
    assert len(use.messages[1]["tool_calls"]) == 2  # type: ignore[arg-type]
    assert [message["content"] for message in use.messages[2:]] == ["116 123", "none"]


AT_FAULT = [
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": 5}, "input"),
    ({"input": [{"role": "robot", "content": "a"}]}, "input[0].role"),
    ({"input": [{"content": "a"}]}, "input[0].role"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"type": "item_reference", "id": "a"}]}, "input[0].type"),
    ({"input": [{"type": "function_call", "arguments": "{}"}]}, "input[0].name"),
    ({"input": [{"type": "reasoning", "content": []}]}, "input"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"background": True}, "background"),
    ({"prompt": {"id": "a"}}, "prompt"),
    ({"truncation": "auto"}, "truncation"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "schema": {"type": "set"}}}}, "text.format.schema"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].name"),
    ({"tools": [{**TOOL, "type": "custom"}]}, "tools[0].type"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"stream": "later"}, "stream"),
    (
        {"input": [{"type": "function_call", "call_id": "1", "name": "f", "arguments": "{"}]},
        "input[0].arguments",
    ),
    ({"input": [{"type": "function_call", "call_id": "1", "name": None}]}, "input[0].name"),
    ({"input": [{"type": "function_call_output", "call_id": "1", "output": None}]}, "input[0].output"),
    ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
]


@pytest.mark.parametrize(("fields", "param"), AT_FAULT, ids=lambda value: str(value)[:50])
def test_the_error_names_the_field_at_fault(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as error:
        read(**fields)
    assert (error.value.status, error.value.param) == (400, param)


async def test_the_official_client_gets_a_whole_response() -> None:
    backend = ScriptedBackend()
    async with served(create_app(backend, ServeSettings())) as address:
        client = client_of(address)
        response = await client.responses.create(
            model="support", input="I lost my job.", instructions="Be kind.", max_output_tokens=12, store=True
        )
        assert (response.output_text, response.status) == ("That sounds heavy.", "completed")
        assert response.usage is not None and response.usage.total_tokens == 10
        assert backend.requests[0].sampling.max_tokens == 12
        for call in (client.responses.retrieve, client.responses.delete):
            with pytest.raises(openai.NotFoundError):
                await call(response.id)


async def streamed(words: tuple[str, ...], **fields: Any) -> tuple[list[Any], Any]:
    async with served(create_app(ScriptedBackend(words=words), ServeSettings())) as address:
        client = client_of(address)
        stream = await client.responses.create(model="support", input="hi", stream=True, **fields)
        events = [event async for event in stream]
        whole = await client.responses.create(model="support", input="hi", **fields)
    return events, whole


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (("That ", "sounds ", "heavy."), ["message"]),
        (("<think>\nHm", ".\n</think>\n\n", "Oh", " no."), ["reasoning", "message"]),
        (("I look.", CALL), ["message", "function_call"]),
        ((CALL,), ["function_call"]),
        (("",), ["message"]),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_the_events_add_up_to_the_whole_response(words: tuple[str, ...], kinds: list[str]) -> None:
    events, whole = await streamed(words, tools=[TOOL])
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events][:2] == ["response.created", "response.in_progress"]
    final = events[-1].response
    assert [item.type for item in final.output] == [item.type for item in whole.output] == kinds
    assert final.output_text == whole.output_text
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert deltas == whole.output_text
    added = [event.item.id for event in events if event.type == "response.output_item.added"]
    done = [event.item.id for event in events if event.type == "response.output_item.done"]
    assert added == done == [item.id for item in final.output]
    calls = [item for item in final.output if item.type == "function_call"]
    assert all(json.loads(call.arguments) == {"city": "Graz"} for call in calls)


async def test_a_reply_that_fails_is_a_status_before_its_first_piece_and_an_event_after_it() -> None:
    error = BackendError("down", kind="unavailable")
    for words_before, status in ((0, 503), (1, 200)):
        backend = ScriptedBackend(error=error, error_after=words_before)
        async with (
            served(create_app(backend, ServeSettings())) as address,
            httpx.AsyncClient(base_url=address) as client,
        ):
            answer = await client.post("/v1/responses", json={"input": "hi", "stream": True})
        assert answer.status_code == status
        assert ("event: error" in answer.text) == (status == 200)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("error", "param"),
    [
        (BackendError("It is too long.", kind="too_long"), "input"),
        (BackendError("The template refuses it.", kind="refused", param="messages"), "input"),
        (BackendError("No schema.", kind="refused", param="response_format"), "text.format"),
        (BackendError("No token.", kind="refused", param="logit_bias"), "logit_bias"),
    ],
)
async def test_a_refusal_of_the_model_names_the_field_of_this_body(
    error: BackendError, param: str, stream: bool
) -> None:
    app = create_app(ScriptedBackend(error=error), ServeSettings())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.post("/v1/responses", json={"input": "hello", "stream": stream})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("number", ["1e999", "-1e400", "NaN", "Infinity"])
async def test_a_number_out_of_range_is_refused_and_never_repeated(number: str) -> None:
    places = (
        '"temperature": NUMBER',
        '"user": NUMBER',
        '"tool_choice": {"type": "function", "name": "f", "x": NUMBER}',
        '"tools": [{"type": "function", "name": "f", "parameters": {"maximum": NUMBER}}]',
        '"text": {"format": {"type": "json_schema", "schema": {"const": NUMBER}}}',
    )
    for place in places:
        body = f'{{"input": "x", {place.replace("NUMBER", number)}}}'
        with pytest.raises(ApiError) as error:
            read_response_body(body.encode(), ServeSettings())
        assert error.value.status == 400
