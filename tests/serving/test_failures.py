"""What a client sees when a model is busy, slow or dead, or when a request cannot be served."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from mica_ray.safety.check import CareFinding, CareSteps
from mica_ray.serving.http.backend import BackendError, FailureKind
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.web_app import create_app
from tests.serving.local_service import served
from tests.serving.scripted_backend import ScriptedBackend

ASK = "/v1/chat/completions"


def said(**fields: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": "hello"}], **fields}


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("busy", 429, "overloaded"),
        ("unavailable", 503, "unavailable"),
        ("timeout", 504, "timeout"),
        ("too_long", 400, "context_length_exceeded"),
    ],
)
async def test_a_failure_before_the_first_word_is_a_status(
    kind: FailureKind, status: int, code: str, streams: bool
) -> None:
    backend = ScriptedBackend(error=BackendError("It failed.", kind=kind))
    async with (
        served(create_app(backend, ServeSettings(retry_after_seconds=7))) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        answer = await client.post(ASK, json=said(stream=streams))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers.get("retry-after") == ("7" if status in (429, 503) else None)


async def test_a_failure_amid_a_stream_is_an_error_for_the_official_client() -> None:
    backend = ScriptedBackend(error=BackendError("the replica died", kind="unavailable"), error_after=1)
    async with served(create_app(backend, ServeSettings())) as address:
        client = openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        stream = await client.chat.completions.create(
            model="support", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        texts: list[str] = []
        with pytest.raises(openai.APIError, match="the replica died"):
            async for chunk in stream:
                texts.append(chunk.choices[0].delta.content or "")
    assert "".join(texts) == "That "


async def test_more_requests_than_allowed_get_429_and_the_rest_their_replies() -> None:
    gate = asyncio.Event()
    app = create_app(ScriptedBackend(gate=gate), ServeSettings(max_in_flight=2))
    async with served(app) as address, httpx.AsyncClient(base_url=address, timeout=60) as client:
        asked = [asyncio.create_task(client.post(ASK, json=said())) for _ in range(5)]
        pending: set[asyncio.Task[httpx.Response]] = set(asked)
        while len(pending) > 2:  # Rejected requests are answered while the others wait for the gate.
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        gate.set()
        answers = await asyncio.gather(*asked)
        assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429]
        assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 429)
        # The requests that ended made room.
        assert (await client.post(ASK, json=said())).status_code == 200


async def test_a_reply_that_takes_too_long_ends_with_a_timeout() -> None:
    backend = ScriptedBackend(gate=asyncio.Event())
    async with (
        served(create_app(backend, ServeSettings(request_seconds=0.05))) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        answer = await client.post(ASK, json=said())
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    assert backend.num_closed == 1  # The model does not continue to sample.


async def test_a_client_that_hangs_up_ends_the_generation() -> None:
    backend = ScriptedBackend(words=("word ",) * 100_000, pause_seconds=0.005)
    async with served(create_app(backend, ServeSettings())) as address:
        async with (
            httpx.AsyncClient(base_url=address) as client,
            client.stream("POST", ASK, json=said(stream=True)) as answer,
        ):
            async for _ in answer.aiter_bytes():
                break
        async with asyncio.timeout(60):
            while not backend.num_closed:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_field_that_cannot_be_served_is_rejected_by_name(fields: dict[str, Any], param: str) -> None:
    backend = ScriptedBackend()
    async with (
        served(create_app(backend, ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        # Encoded by json, which escapes a lone surrogate; the client's own encoder rejects it.
        headers = {"content-type": "application/json"}
        answer = await client.post(ASK, content=json.dumps(said(**fields)), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert backend.requests == []


async def test_fields_that_clients_send_by_default_are_accepted() -> None:
    defaults = {
        "user": "a",
        "store": False,
        "tools": [],
        "tool_choice": "auto",
        "logprobs": False,
        "response_format": {"type": "text"},
        "presence_penalty": 0,
        "n": 1,
        "messages": [
            {"role": "developer", "content": "Be kind."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "I am "}, {"type": "text", "text": "ill."}],
            },
            {"role": "assistant", "content": "Oh.", "refusal": None, "tool_calls": None},
            {"role": "user", "content": "Yes."},
        ],
    }
    backend = ScriptedBackend()
    async with (
        served(create_app(backend, ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        assert (await client.post(ASK, json=said(**defaults))).status_code == 200
    received = [(message["role"], message["content"]) for message in backend.requests[0].messages]
    assert received == [("system", "Be kind."), ("user", "I am ill."), ("assistant", "Oh."), ("user", "Yes.")]


class Alarmed:
    """A care check that always finds something."""

    def check(self, text: str, locale: str) -> CareFinding | None:
        return CareFinding("self_harm", self.help_line(locale))

    def steps(self, text: str, locale: str) -> CareSteps:
        yield
        return self.check(text, locale)

    def help_line(self, locale: str) -> str:
        return f"Please call for help ({locale})."

    def without_help_line(self, text: str) -> str:
        return text


async def test_a_help_line_comes_even_when_no_model_answers() -> None:
    backend = ScriptedBackend(error=BackendError("down", kind="unavailable"))
    async with (
        served(create_app(backend, ServeSettings(), care=Alarmed())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        answer = await client.post(ASK, json=said(metadata={"locale": "de-AT"}))
        forged = await client.post(ASK, json=said(), headers={"accept-language": "<script>"})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "Please call for help (de-AT)."
    assert "(en)" in forged.json()["choices"][0]["message"]["content"]
