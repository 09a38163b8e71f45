"""JSON request bodies: read and validated; an error names the field at fault."""

from __future__ import annotations

import json

from pydantic import ValidationError
from starlette.requests import Request

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.settings import ServeSettings


async def json_content(request: Request) -> bytes:
    """Return the body of a request whose Content-Type is JSON.

    Raises:
        ApiError: 415, another Content-Type. A form on another site's page cannot send JSON, and the browser
            asks for permission before a script does.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(
            415,
            "The Content-Type must be application/json. Set this header.",
            code="wrong_content_type",
        )
    return await request.body()


def read_object(content: bytes) -> dict[str, object]:
    """Parse a body as one JSON object.

    Raises:
        ApiError: 400, it is not one.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "The body is not valid JSON. Send one JSON object.") from error
    if not isinstance(found, dict):
        raise ApiError(400, "The body must be a JSON object. Send one JSON object.")
    return found


def invalid_field(error: ValidationError) -> ApiError:
    """Return the error for the first invalid field, without quoting its value."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join(str(part)[:64] for part in problem["loc"][:3]) or "body"
    if problem["type"] == "extra_forbidden":
        return ApiError(400, "This field is unknown. Leave it out.", param=param, code="unknown_field")
    return ApiError(400, f"{param} is invalid. {problem['msg']}.", param=param)


def check_text(text: str, settings: ServeSettings, *, where: str, param: str) -> None:
    r"""Check the length of a text and that it is valid Unicode.

    JSON can contain lone surrogates such as \ud800, which no tokenizer accepts.

    Args:
        text: one message.
        settings: with the maximum length.
        where: place of the text in the request, for the error message.
        param: the request field, for the error.

    Raises:
        ApiError: 400, the text is too long or not valid Unicode.
    """
    if len(text) > settings.max_message_chars:
        raise ApiError(
            400,
            f"{where} has {len(text)} characters, the limit is {settings.max_message_chars}. Shorten it.",
            param=param,
            code="message_too_long",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ApiError(
            400, f"{where} is not valid Unicode text. Remove lone surrogate characters.", param=param
        ) from error
