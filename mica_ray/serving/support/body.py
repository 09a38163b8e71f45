"""The request bodies of /v1/support/sessions, validated."""

from __future__ import annotations

from pydantic import Field, ValidationError

from mica_ray.serving.http.json_body import RequestBody, check_text, invalid_field, read_object
from mica_ray.serving.http.settings import ServeSettings


class SessionBody(RequestBody):
    """The body that opens a session."""

    model: str = ""
    """Empty: the first model of the service."""
    locale: str | None = None
    """Of the help line."""


class MessageBody(RequestBody):
    """A person's message in a session."""

    content: str = Field(min_length=1)
    stream: bool = False


def read_session_body(content: bytes) -> SessionBody:
    """Read the body that opens a session; an empty one requests the first model.

    Raises:
        ApiError: 400, names the field at fault.
    """
    try:
        return SessionBody.model_validate(read_object(content or b"{}"))
    except ValidationError as error:
        raise invalid_field(error) from error


def read_message_body(content: bytes, settings: ServeSettings) -> MessageBody:
    """Read the body of a message.

    Raises:
        ApiError: 400, names the field at fault.
    """
    try:
        message = MessageBody.model_validate(read_object(content))
    except ValidationError as error:
        raise invalid_field(error) from error
    check_text(message.content, settings, param="content")
    return message
