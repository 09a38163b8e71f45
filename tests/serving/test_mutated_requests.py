"""No request, however mutated, makes the service fail; and whatever it answers is valid.

The long test has 15 blocks of 10,000 requests, so that a stopped run continues with `--last-failed` or `-k`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.serving.http.api_keys import KeyFile
from mica_ray.serving.http.backend import ChatRequest, ServedModel, TextDelta, TextLogprob, Usage
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.web_app import create_app
from mica_ray.valid_text import valid_text
from tests.serving.mutated_requests import SESSION, MutatedRequest, mutated_requests

if TYPE_CHECKING:
    from starlette.applications import Starlette

HOSTILE = (
    "sad \ud83d",
    "\ude22 ",
    "\0\u2028\u2029\r\n",
    "\n\ndata: [DONE]\n\n",
    "<think",
    ">",
    '<tool_call>{"name": "find_help", "arguments": {"a": "\ud800"}}',
    "</tool_call>",
    "\udc00",
)


class HostileBackend:
    """Replies with text that no server should trust, or with the texts it is given."""

    def __init__(self, words: Sequence[str] = HOSTILE) -> None:
        self.words = words
        self.requests: list[ChatRequest] = []

    def models(self) -> Sequence[ServedModel]:
        return [ServedModel("support"), ServedModel("other")]

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        self.requests.append(request)
        for message in request.messages:
            message["content"].encode()  # What reaches a model is valid Unicode.
        top = None if request.options.top_logprobs is None else TextLogprob("\ud800", float("-inf"))
        for word in self.words[:-1]:
            yield TextDelta(word, logprobs=(top,) if top else ())
        yield TextDelta(self.words[-1], "stop", Usage(3, len(self.words)))


async def send(app: Starlette, request: MutatedRequest) -> tuple[int, bytes]:
    """Send a request to the application, without a server; return status and body."""
    path, _, query = request.path.partition("?")
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": request.method,
        "scheme": "http", "path": path, "raw_path": path.encode("utf-8", "replace"),
        "query_string": query.encode(), "headers": list(request.headers), "client": ("127.0.0.1", 5),
        "server": ("localhost", 80), "root_path": "",
    }  # fmt: skip
    waiting = [{"type": "http.request", "body": request.content, "more_body": False}]
    status, body = 0, b""

    async def receive() -> dict[str, Any]:
        return waiting.pop() if waiting else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send_back(message: Any) -> None:
        nonlocal status, body
        status = message.get("status", status)
        body += message.get("body", b"")

    async with asyncio.timeout(20):
        await app(scope, receive, send_back)
    return status, body


def check_valid(status: int, body: bytes, request: MutatedRequest) -> None:
    assert 200 <= status < 500, (status, request)
    text = body.decode()
    if text.startswith(("data: ", "event: ")):
        for block in text.removesuffix("\n\n").split("\n\n"):
            line = block.partition("data: ")[2]
            assert line == "[DONE]" or json.loads(line), request
    elif text.startswith("{"):
        json.loads(text)


async def opened(app: Starlette) -> str:
    headers = ((b"host", b"localhost"), (b"content-type", b"application/json"))
    _, body = await send(app, MutatedRequest("POST", "/v1/support/sessions", headers, b"{}"))
    return json.loads(body)["id"]


async def check_block(folder: Path, seed: int, count: int) -> None:
    options = ServeSettings(sessions=True, votes_file=folder / "votes.jsonl", max_messages=64)
    app = create_app(HostileBackend(), options)
    session = await opened(app)
    for number, mutated in enumerate(mutated_requests(seed, count)):
        if number % 500 == 499:  # A session has a limit of messages.
            session = await opened(app)
        request = MutatedRequest(
            mutated.method,
            mutated.path.replace(SESSION, session),
            mutated.headers,
            mutated.content.replace(SESSION.encode(), session.encode()),
        )
        check_valid(*await send(app, request), request)


async def test_no_mutated_request_makes_the_service_fail(tmp_path: Path) -> None:
    await check_block(tmp_path, seed=0, count=2000)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("block", range(1, 16))
async def test_no_request_of_a_block_makes_the_service_fail(tmp_path: Path, block: int) -> None:
    await check_block(tmp_path, seed=block, count=10_000)


async def test_no_mutated_request_passes_without_a_key(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    keys.add("page")
    backend = HostileBackend()
    app = create_app(backend, ServeSettings(keys_file=keys.path, sessions=True))
    for request in mutated_requests(99, 300):
        status, _ = await send(app, request)
        assert status < 500
    assert backend.requests == []


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
"""All of Unicode, lone surrogates included."""


def post(path: str, body: object) -> MutatedRequest:
    headers = ((b"host", b"localhost"), (b"content-type", b"application/json"))
    return MutatedRequest("POST", path, headers, json.dumps(body).encode())


@settings(deadline=None, max_examples=100)
@given(said=ANY_TEXT, words=st.lists(ANY_TEXT, min_size=1, max_size=5))
def test_every_text_passes_through_the_service_as_valid_unicode(said: str, words: list[str]) -> None:
    words = ["I", *words, "."]  # Thoughts begin a reply; nothing here may look like one.
    expected = valid_text("".join(words))

    async def check() -> None:
        backend = HostileBackend(words)
        app = create_app(backend, ServeSettings(sessions=True))
        messages = [{"role": "user", "content": said}]
        _, body = await send(app, post("/v1/chat/completions", {"messages": messages}))
        assert json.loads(body)["choices"][0]["message"]["content"] == expected
        _, body = await send(app, post("/v1/chat/completions", {"messages": messages, "stream": True}))
        events = [json.loads(line[6:]) for line in body.decode().split("\n\n") if line.startswith("data: {")]
        assert "".join(e["choices"][0]["delta"].get("content", "") for e in events) == expected
        _, body = await send(app, post("/v1/responses", {"input": said}))
        assert json.loads(body)["output"][0]["content"][0]["text"] == expected
        _, body = await send(app, post("/v1/responses", {"input": said, "stream": True}))
        lines = [block.partition("data: ")[2] for block in body.decode().split("\n\n") if block]
        assert "".join(e.get("delta", "") for e in map(json.loads, lines)) == expected
        for request in backend.requests:
            assert request.messages[-1]["content"] == valid_text(said)

    asyncio.run(check())
