"""HTTP responses: a JSON object, or a stream of server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

from pydantic_core import PydanticSerializationError, to_json
from starlette.responses import Response

from mica_ray.serving.http.api_error import ApiError
from mica_ray.valid_text import valid_json

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

DONE = b"data: [DONE]\n\n"
"""The last event of OpenAI's stream format."""


def json_response(content: Mapping[str, object], *, status: int = 200) -> Response:
    """Return a response with a JSON body."""
    return Response(encoded(content), status_code=status, media_type="application/json")


def event(content: Mapping[str, object]) -> bytes:
    """Encode a server-sent event. JSON escapes line breaks, so no text ends it early."""
    return b"data: " + encoded(content) + b"\n\n"


def encoded(content: Mapping[str, object]) -> bytes:
    """Return JSON as UTF-8, its strings made valid Unicode."""
    try:
        return to_json(content)
    except PydanticSerializationError:
        return to_json(valid_json(content))


async def event_response(events: AsyncGenerator[bytes, None]) -> Response:
    """Return a streaming response once the first event is there.

    A failure before the first event still becomes an HTTP status; a later one becomes an event in the stream.

    Raises:
        ApiError: there is no first event.
    """
    return _EventResponse(await anext(events), events)


class _EventResponse(Response):
    """Sends events until the last one, or until the client is gone.

    Starlette's streaming response does the same with a task group, and costs half as much as the rest of a
    short reply (experiments/bench_serving.py).
    """

    media_type = "text/event-stream"

    def __init__(self, first: bytes, following: AsyncGenerator[bytes, None]) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"X-Accel-Buffering": "no"})
        self._first = first
        self._following = following

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._following):
            try:
                # The timeout cancels what waits for the model, at the moment the client leaves.
                async with asyncio.timeout(None) as present:
                    leaving = asyncio.create_task(_end_when_gone(receive, present))
                    try:
                        await self._send(send)
                    finally:
                        leaving.cancel()
            except TimeoutError:
                if not present.expired():
                    raise

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        data, following = self._first, aiter(self._following)
        while data is not None:
            is_last = data.endswith(DONE)
            await send({"type": "http.response.body", "body": data, "more_body": not is_last})
            if is_last:
                return
            try:
                data = await anext(following, None)
            except ApiError as error:
                data = event(error.body)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _end_when_gone(receive: Receive, present: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    present.reschedule(asyncio.get_running_loop().time())
