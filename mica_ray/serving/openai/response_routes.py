"""The route /v1/responses: text, without storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mica_ray.serving.http.access import AccessControl
from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.backend import TextDelta
from mica_ray.serving.http.help_locale import locale_of
from mica_ray.serving.http.json_body import json_content
from mica_ray.serving.http.responder import Responder
from mica_ray.serving.http.responses import event_response, json_response
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.openai.chat_routes import CARE_HEADER
from mica_ray.serving.openai.choices import joined_choices, stream_choices
from mica_ray.serving.openai.response_body import ResponseBody, read_response_body
from mica_ray.serving.openai.response_object import ResponseEvents, ServedResponse, output_items

_FIELDS = {"messages": "input", "response_format": "text.format"}
"""Names of fields in this body, by their names in that of a chat completion."""


def response_routes(responder: Responder, access: AccessControl, settings: ServeSettings) -> list[Route]:
    """Return the routes."""

    async def create(request: Request) -> Response:
        access.admit(request.headers.get("authorization", ""))
        body = read_response_body(await json_content(request), settings)
        try:
            return await _respond(responder, body, locale_of(request, body.locale, settings))
        except ApiError as error:
            raise error.renamed(_FIELDS) from error

    async def stored(request: Request) -> Response:
        access.admit(request.headers.get("authorization", ""))
        raise ApiError(
            404,
            "This service stores no responses. Send the whole conversation with each request.",
            code="response_not_found",
        )

    return [
        Route("/v1/responses", create, methods=["POST"]),
        Route("/v1/responses/{response_id:path}", stored, methods=["GET", "POST", "DELETE"]),
    ]


async def _respond(responder: Responder, body: ResponseBody, locale: str) -> Response:
    request = replace(body.request, model=responder.resolve_model(body.request.model))
    finding = await responder.check_care(request, locale)
    pieces = stream_choices(responder, request, finding, 1)
    served = ServedResponse(request.model, body.repeated, request.options.top_logprobs is not None)
    if request.is_streamed:
        response = await event_response(_events(pieces, served))
    else:
        (choice,), usage = await joined_choices(pieces, 1)
        items = output_items(served, choice)
        response = json_response(served.whole(items, choice.finish_reason, usage))
    if finding is not None:
        response.headers[CARE_HEADER] = finding.kind
    return response


async def _events(
    pieces: AsyncGenerator[tuple[int, TextDelta], None], served: ServedResponse
) -> AsyncGenerator[bytes, None]:
    """Yield the events of each piece as one write.

    Raises:
        ApiError: the reply failed before its first piece.
    """
    events = ResponseEvents(served)
    opening = events.opening()
    async with aclosing(pieces):
        try:
            async for _, piece in pieces:
                yield opening + events.piece(piece)
                opening = b""
        except ApiError as error:
            if opening:
                raise
            yield events.failure(error)
