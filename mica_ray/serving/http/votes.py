"""Votes on two models: which reply was better. Stored for the operator, without any text."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mica_ray.files import append_line, mend_lines
from mica_ray.serving.http.access import AccessControl
from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.json_body import RequestBody, invalid_field, json_content, read_object
from mica_ray.serving.http.responder import Responder
from mica_ray.serving.http.responses import json_response


class _Vote(RequestBody):
    left: str = Field(max_length=256)
    right: str = Field(max_length=256)
    choice: Literal["left", "right", "tie"]


def vote_route(responder: Responder, access: AccessControl, file: Path | None) -> Route:
    """Return the route POST /v1/support/votes.

    A vote counts if both models have answered the same conversation for the same key within the last hour.
    Each conversation has one vote.

    Args:
        responder: its models; votes on other models are rejected.
        access: checks keys and rates.
        file: JSON lines of left, right, choice and time; None rejects votes with 404.
    """
    if file is not None:
        mend_lines(file)

    async def vote(request: Request) -> Response:
        owner = access.admit(request.headers.get("authorization", ""))
        if file is None:
            raise ApiError(
                404, "This service stores no votes. Its operator can set serve.votes_file.", code="votes_off"
            )
        cast = _read_vote(await json_content(request), [model.id for model in responder.backend.models()])
        if not responder.replies.take(owner, {cast.left, cast.right}):
            raise ApiError(
                409,
                "There is no conversation that both models have answered, or it has its vote. Send the same "
                "messages to both models, then vote.",
                code="no_conversation",
            )
        line = json.dumps({**cast.model_dump(), "time": int(time.time())}, ensure_ascii=False)
        append_line(file, line.encode())
        return json_response({"object": "support.vote"}, status=201)

    return Route("/v1/support/votes", vote, methods=["POST"])


def _read_vote(content: bytes, names: list[str]) -> _Vote:
    try:
        vote = _Vote.model_validate(read_object(content))
    except ValidationError as error:
        raise invalid_field(error) from error
    for side, name in (("left", vote.left), ("right", vote.right)):
        if name not in names:
            raise ApiError(
                404,
                f"The model of {side} is not served. Use one of: {', '.join(names)}.",
                param=side,
                code="model_not_found",
            )
    if vote.left == vote.right:
        raise ApiError(400, "left and right must be two different models.", param="right")
    return vote
