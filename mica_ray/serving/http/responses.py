"""HTTP responses: a JSON object, or a stream of server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import Response, StreamingResponse

from mica_ray.serving.http.api_error import ApiError

DONE = b"data: [DONE]\n\n"
"""The last event of OpenAI's stream format."""


def json_response(content: Mapping[str, object], *, status: int = 200) -> Response:
    """Return a response with a JSON body."""
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, status_code=status, media_type="application/json")


def event(content: Mapping[str, object]) -> bytes:
    """Encode a server-sent event. JSON escapes line breaks, so no text ends it early."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode("utf-8", "replace")


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
