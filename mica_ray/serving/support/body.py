"""The bodies of /v1/support/sessions, read and bounded."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mica_ray.serving.http.json_body import check_text, invalid_field, read_object
from mica_ray.serving.http.settings import ServeSettings


class SessionBody(BaseModel):
    """What begins a session."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    model: str = ""
    """Empty: the first of the service."""
    locale: str | None = None
    """Of the help line."""


class MessageBody(BaseModel):
    """What a person says in a session."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    content: str = Field(min_length=1)
    stream: bool = False


def read_session_body(content: bytes) -> SessionBody:
    """Read a body; an empty one asks for the first model.

    Raises:
        ApiError: 400, names the field at fault.
    """
    try:
        return SessionBody.model_validate(read_object(content or b"{}"))
    except ValidationError as error:
        raise invalid_field(error) from error


def read_message_body(content: bytes, settings: ServeSettings) -> MessageBody:
    """Read a body.

    Raises:
        ApiError: 400, names the field at fault.
    """
    try:
        said = MessageBody.model_validate(read_object(content))
    except ValidationError as error:
        raise invalid_field(error) from error
    check_text(said.content, settings, where="content", param="content")
    return said
