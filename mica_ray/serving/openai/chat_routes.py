"""The routes /v1/models and /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mica_ray.serving.http.access import AccessControl
from mica_ray.serving.http.backend import TextDelta, Usage
from mica_ray.serving.http.help_locale import locale_of
from mica_ray.serving.http.json_body import json_content
from mica_ray.serving.http.responder import Responder
from mica_ray.serving.http.responses import DONE, event_response, json_response
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.openai.chat_body import ChatBody, read_chat_body
from mica_ray.serving.openai.completion import ServedCompletion

CARE_HEADER = "X-Mica-Care"


def chat_routes(responder: Responder, access: AccessControl, settings: ServeSettings) -> list[Route]:
    """Return the routes."""

    async def models(request: Request) -> Response:
        access.admit(request.headers.get("authorization", ""))
        cards = [
            {"id": model.id, "object": "model", "created": model.created, "owned_by": "mica"}
            for model in responder.backend.models()
        ]
        return json_response({"object": "list", "data": cards})

    async def completions(request: Request) -> Response:
        access.admit(request.headers.get("authorization", ""))
        body = read_chat_body(await json_content(request), settings)
        return await _complete(responder, body, locale_of(request, body.locale, settings))

    return [
        Route("/v1/chat/completions", completions, methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
    ]


async def _complete(responder: Responder, body: ChatBody, locale: str) -> Response:
    request = replace(body.request, model=responder.resolve_model(body.request.model))
    finding = responder.check_care(request, locale)
    pieces = responder.stream(request, finding)
    completion = ServedCompletion(request.model)
    if request.is_streamed:
        response = await event_response(_chunks(pieces, completion, includes_usage=body.includes_usage))
    else:
        reply = await _joined(pieces)
        reason, usage = reply.finish_reason or "stop", reply.usage or Usage(0, 0)
        response = json_response(completion.whole(reply.text, reason, usage, thinking=reply.thinking))
    if finding is not None:
        # Lets the page show the first piece as the help line and not as the model's text.
        response.headers[CARE_HEADER] = finding.kind
    return response


async def _joined(pieces: AsyncGenerator[TextDelta, None]) -> TextDelta:
    """Join all pieces into one.

    Raises:
        ApiError: the reply failed before its last piece.
    """
    async with aclosing(pieces):
        found = [piece async for piece in pieces]
    text, thinking = "".join(piece.text for piece in found), "".join(piece.thinking for piece in found)
    return replace(found[-1], text=text, thinking=thinking)


async def _chunks(
    pieces: AsyncGenerator[TextDelta, None], completion: ServedCompletion, *, includes_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of each piece as one write."""
    opening = completion.opening_chunk()
    async with aclosing(pieces):
        async for piece in pieces:
            chunks, opening = [opening], b""
            if piece.thinking:
                chunks.append(completion.thinking_chunk(piece.thinking))
            if piece.text:
                chunks.append(completion.text_chunk(piece.text))
            if piece.finish_reason is not None:
                chunks.append(completion.closing_chunk(piece.finish_reason))
                if includes_usage:
                    chunks.append(completion.usage_chunk(piece.usage or Usage(0, 0)))
                chunks.append(DONE)
            yield b"".join(chunks)
