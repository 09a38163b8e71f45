"""The routes /v1/models and /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mica_ray.serving.http.access import AccessControl
from mica_ray.serving.http.backend import ServedModel, TextDelta, Usage
from mica_ray.serving.http.help_locale import locale_of
from mica_ray.serving.http.json_body import json_content
from mica_ray.serving.http.responder import Responder
from mica_ray.serving.http.responses import DONE, event_response, json_response
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.openai.chat_body import ChatBody, read_chat_body
from mica_ray.serving.openai.choices import joined_choices, stream_choices, total_usage
from mica_ray.serving.openai.completion import ServedCompletion

CARE_HEADER = "X-Mica-Care"


def chat_routes(responder: Responder, access: AccessControl, settings: ServeSettings) -> list[Route]:
    """Return the routes."""

    async def models(request: Request) -> Response:
        access.admit(request.headers.get("authorization", ""))
        cards = [_card(model) for model in responder.backend.models()]
        return json_response({"object": "list", "data": cards})

    async def model(request: Request) -> Response:
        access.admit(request.headers.get("authorization", ""))
        name = responder.resolve_model(request.path_params["model"])
        return json_response(_card(next(m for m in responder.backend.models() if m.id == name)))

    async def completions(request: Request) -> Response:
        owner = access.admit(request.headers.get("authorization", ""))
        body = read_chat_body(await json_content(request), settings)
        access.occupy_for_choices(owner, body.num_choices)
        return await _complete(responder, body, locale_of(request, body.locale, settings))

    return [
        Route("/v1/chat/completions", completions, methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/", models, methods=["GET"]),
        # A hub id has a slash.
        Route("/v1/models/{model:path}", model, methods=["GET"]),
    ]


def _card(model: ServedModel) -> dict[str, object]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": "mica"}


async def _complete(responder: Responder, body: ChatBody, locale: str) -> Response:
    request = replace(body.request, model=responder.resolve_model(body.request.model))
    finding = await responder.check_care(request, locale)
    pieces = stream_choices(responder, request, finding, body.num_choices)
    completion = ServedCompletion(request.model, request.options.top_logprobs is not None)
    if request.is_streamed:
        response = await event_response(_chunks(pieces, completion, body))
    else:
        response = json_response(completion.whole(*await joined_choices(pieces, body.num_choices)))
    if finding is not None:
        # Lets the page show the first piece as the help line and not as the model's text.
        response.headers[CARE_HEADER] = finding.kind
    return response


async def _chunks(
    pieces: AsyncGenerator[tuple[int, TextDelta], None], completion: ServedCompletion, body: ChatBody
) -> AsyncGenerator[bytes, None]:
    """Yield the chunks of each piece as one write."""
    num_calls: dict[int, int] = {}
    usages: list[Usage | None] = []
    async with aclosing(pieces):
        async for index, piece in pieces:
            chunks = [] if index in num_calls else [completion.opening_chunk(index)]
            chunks += completion.chunks(index, piece, num_calls=num_calls.get(index, 0))
            num_calls[index] = num_calls.get(index, 0) + len(piece.calls)
            if piece.finish_reason is not None:
                usages.append(piece.usage)
            if len(usages) == body.num_choices:
                if body.includes_usage:
                    chunks.append(completion.usage_chunk(total_usage(usages)))
                chunks.append(DONE)
            if chunks:
                yield b"".join(chunks)
