"""A real HTTP server with the chat completions protocol and faults on demand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Request = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """How the server answers one request."""

    text: str | None = "hello"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str | bytes | None = None
    """Sent instead of a completion."""
    model: str | None = None
    """Model name in the answer; None for the requested model plus "-served"."""
    finish_reason: str = "stop"
    after_seconds: float = 0.0
    is_dropped: bool = False
    """Close the connection without an answer."""
    is_trickled: bool = False
    """Send one byte every 20 ms without end."""


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Answer:
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": code}})
    return Answer(status=status, body=body, headers=headers)


HANG = Answer(after_seconds=3600)
DROP = Answer(is_dropped=True)
TRICKLE = Answer(is_trickled=True)


class LocalEndpoint:
    """Serves the answers in order and then repeats the last one, or calls `respond` for each request."""

    def __init__(
        self, *answers: Answer, respond: Callable[[Request], Awaitable[Answer]] | None = None
    ) -> None:
        self._answers = list(answers)
        self._respond = respond
        self.requests: list[Request] = []
        self.keys: list[str] = []
        self.heads: list[dict[str, str]] = []
        """Headers of the requests by lower-case name; "path" is the requested path."""
        self.in_flight = 0
        self.most_in_flight = 0

    async def __aenter__(self) -> LocalEndpoint:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self._exchange(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client gave up first.
        finally:
            self.in_flight -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in head[1:])}
        self.heads.append(headers | {"path": head[0].split()[1]})
        self.requests.append(json.loads(await reader.readexactly(int(headers["content-length"]))))
        self.keys.append(headers.get("authorization", ""))
        answer = await self._answer(self.requests[-1])
        # Until the pause is over or the client hangs up.
        hung_up = asyncio.ensure_future(reader.read())
        await asyncio.wait([hung_up], timeout=answer.after_seconds)
        hung_up.cancel()
        if answer.is_dropped:
            return
        text = answer.body if answer.body is not None else _completion(answer, self.requests[-1]["model"])
        body = text.encode() if isinstance(text, str) else text
        fields = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
        }
        if answer.is_trickled:
            fields["content-length"] = "1000000"
        lines = [
            f"HTTP/1.1 {answer.status} status",
            *(f"{k}: {v}" for k, v in (fields | answer.headers).items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        while answer.is_trickled:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.write(body)
        await writer.drain()

    async def _answer(self, request: Request) -> Answer:
        if self._respond is not None:
            return await self._respond(request)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def _completion(answer: Answer, model: str) -> str:
    message = {"role": "assistant", "content": answer.text}
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    completion = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": answer.model or f"{model}-served",
    }
    return json.dumps(completion | {"choices": [choice], "usage": usage})
