"""Responses: a JSON object, or a stream of server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import Response, StreamingResponse

from mica_ray.serving.http.api_error import ApiError

DONE = b"data: [DONE]\n\n"


def json_response(content: Mapping[str, object], *, status: int = 200) -> Response:
    """Give an answer of JSON."""
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, status_code=status, media_type="application/json")


def event(content: Mapping[str, object]) -> bytes:
    """Give one server-sent event. JSON escapes line breaks, so no text can end it early."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode("utf-8", "replace")


async def event_response(events: AsyncGenerator[bytes, None]) -> Response:
    """Answer with a stream. Waits for the first event: until then a failure is still a status of HTTP.

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
