"""JSON bodies of requests: read, checked, and refused by the field at fault. Used by every route."""

from __future__ import annotations

import json

from pydantic import ValidationError
from starlette.requests import Request

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.settings import ServeSettings


async def json_content(request: Request) -> bytes:
    """Give the body of a request that says it is JSON.

    Raises:
        ApiError: 415, it says otherwise. A form of another site's page cannot say it is JSON, and the browser
            asks before a script does.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "send Content-Type: application/json", code="wrong_content_type")
    return await request.body()


def read_object(content: bytes) -> dict[str, object]:
    """Read a body as one JSON object.

    Raises:
        ApiError: 400, it is none.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "the body is not JSON; send one JSON object") from error
    if not isinstance(found, dict):
        raise ApiError(400, "the body must be one JSON object")
    return found


def invalid_field(error: ValidationError) -> ApiError:
    """Give the refusal of the first field that does not fit, without its value."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join(str(part)[:64] for part in problem["loc"][:3]) or "body"
    if problem["type"] == "extra_forbidden":
        return ApiError(400, "this field is not known; leave it out", param=param, code="unknown_field")
    return ApiError(400, f"{param}: {problem['msg']}", param=param)


def check_text(text: str, settings: ServeSettings, *, where: str, param: str) -> None:
    """Refuse a text that is too long, or that no tokenizer takes: JSON can carry halves of characters.

    Raises:
        ApiError: 400, names where the text stands.
    """
    if len(text) > settings.max_message_chars:
        raise ApiError(
            400,
            f"{where} has {len(text)} characters; this service takes {settings.max_message_chars}",
            param=param,
            code="message_too_long",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ApiError(400, f"{where} is not valid Unicode text", param=param) from error
