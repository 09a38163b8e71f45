"""The part of the chat completions protocol that chat/openai_api.py reads and writes."""

from __future__ import annotations

from typing import Literal

from openai import Omit, omit
from openai.types.chat.completion_create_params import ResponseFormat
from pydantic import BaseModel, Field

from mica_ray.chat.model import JsonSchema

StructuredOutput = Literal["json_schema", "json_object", "none"]


class CompletionMessage(BaseModel):
    """The model's message. Servers use one of two names for its reasoning."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class CompletionChoice(BaseModel):
    """One answer and its finish reason."""

    message: CompletionMessage
    finish_reason: str | None = None


class CompletionUsage(BaseModel):
    """The billed tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class EndpointCompletion(BaseModel):
    """A chat completion as the endpoint returns it."""

    choices: list[CompletionChoice] = Field(min_length=1)
    model: str | None = None
    usage: CompletionUsage | None = None


def response_format(support: StructuredOutput, schema: JsonSchema | None) -> ResponseFormat | Omit:
    """Return the response format that enforces a schema as far as the endpoint supports it."""
    if schema is None or support == "none":
        return omit
    if support == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)}}
