"""JSON request bodies: read, made valid Unicode and validated; an error names the field at fault.

Null means absent, in every field of every body. Unknown fields are ignored, and logged once.
"""

from __future__ import annotations

import json
import logging
import math
import re
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from starlette.requests import Request

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.valid_text import valid_json

_LOG = logging.getLogger(__name__)

_MAX_PARTS = 8
_MAX_PART_CHARS = 64
"""Limits of the path in an error: the names in it may come from the client."""
_OBJECT, _LIST = "it must be a JSON object", "it must be a list"
_WRONG_KIND = {
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "string_type": "it must be a text",
}
"""What pydantic would describe in terms of Python."""


class UnknownFields:
    """The names of unknown fields, each logged once.

    Args:
        limit: of names: a client can send any number of them.
    """

    def __init__(self, limit: int = 100) -> None:
        self._limit = limit
        self._names: set[str] = set()

    def note(self, place: str, names: set[str]) -> None:
        """Log the names that are new. A name that could be a text of the conversation is not quoted."""
        for name in sorted(names):
            shown = name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}", name) else "(not a plain name)"
            key = f"{place}.{shown}" if place else shown
            if key not in self._names and len(self._names) < self._limit:
                self._names.add(key)
                _LOG.warning("Ignored the unknown request field %s. Later requests with it log nothing.", key)


_UNKNOWN = UnknownFields()


class RequestBody(BaseModel):
    """A JSON object sent by a client: null means absent, unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _present_fields(cls, sent: Any) -> Any:
        if not isinstance(sent, dict):
            return sent
        if unknown := sent.keys() - _known_fields(cls):
            _UNKNOWN.note(cls.place(), unknown)
        return {name: value for name, value in sent.items() if value is not None}

    @classmethod
    def place(cls) -> str:
        """Return the path of this object in a body, for the log; empty for the body itself."""
        return ""


@cache
def _known_fields(body: type[RequestBody]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in body.model_fields.items())


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
    r"""Parse a body as one JSON object, with all its strings as valid Unicode.

    JSON can contain lone surrogates such as \ud800, which neither a tokenizer nor UTF-8 accepts.

    Raises:
        ApiError: 400, it is not one.
    """
    try:
        found = json.loads(content, parse_float=_finite, parse_constant=_refuse_constant)
        if _may_have_surrogates(content):
            found = valid_json(found)
    except (ValueError, RecursionError) as error:
        raise ApiError(
            400, "The body is not valid JSON, or has a number out of range. Send one JSON object."
        ) from error
    if not isinstance(found, dict):
        raise ApiError(400, "The body must be a JSON object. Send one JSON object.")
    return found


def _may_have_surrogates(content: bytes) -> bool:
    r"""Whether a string of this JSON can be invalid Unicode: it escapes a surrogate, or is not UTF-8.

    JSON in UTF-16 or UTF-32 has NUL bytes, and may pass as UTF-8.
    """
    try:
        content.decode()
    except UnicodeDecodeError:
        return True
    return b"\\ud" in content.lower() or b"\0" in content


def invalid_field(error: ValidationError) -> ApiError:
    """Return the error for the first invalid field, without quoting its value."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = field_path(problem["loc"])
    if problem["type"] == "missing":
        return ApiError(400, f"{param} is missing. Add it.", param=param, code="missing_field")
    reason = _WRONG_KIND.get(problem["type"], problem["msg"].removeprefix("Value error, ").rstrip("."))
    return ApiError(400, f"{param} is invalid: {reason}. Correct it, or leave it out.", param=param)


def field_path(location: tuple[int | str, ...]) -> str:
    """Return the path of a field.

    >>> field_path(("messages", 3, "content", 0, "type"))
    'messages[3].content[0].type'
    """
    path = ""
    for part in location[:_MAX_PARTS]:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part[:_MAX_PART_CHARS]}" if path else part[:_MAX_PART_CHARS]
    return path or "body"


def check_text(text: str, settings: ServeSettings, *, param: str) -> None:
    """Check the length of a text.

    Args:
        text: one message.
        settings: with the maximum length.
        param: path of the text in the request.

    Raises:
        ApiError: 400, the text is too long.
    """
    if len(text) > settings.max_message_chars:
        raise ApiError(
            400,
            f"{param} has {len(text)} characters, the limit is {settings.max_message_chars}. Shorten it.",
            param=param,
            code="message_too_long",
        )


def _finite(number: str) -> float:
    """Convert a number; 1e999 is JSON, but would be Infinity here, which no response may repeat."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("The number is out of range.")
    return value


def _refuse_constant(name: str) -> object:
    """Refuse NaN and Infinity, which Python's parser accepts and JSON does not have."""
    raise ValueError(f"{name} is not JSON.")
