"""HTTP responses: a JSON object, or a stream of server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import Response, StreamingResponse

from mica_ray.serving.http.api_error import ApiError
from mica_ray.valid_text import valid_json

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
    text = json.dumps(content, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(valid_json(content), ensure_ascii=False).encode()


async def event_response(events: AsyncGenerator[bytes, None]) -> Response:
    """Return a streaming response once the first event is there.

    A failure before the first event still becomes an HTTP status; a later one becomes an event in the stream.

    Raises:
        ApiError: there is no first event.
    """
    first = await anext(events)

    async def all_events() -> AsyncGenerator[bytes, None]:
        async with aclosing(events):
            yield first
            try:
                async for following in events:
                    yield following
            except ApiError as error:
                yield event(error.body)

    return StreamingResponse(
        all_events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )
