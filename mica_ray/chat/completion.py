"""The part of the chat completions protocol that openai_api.py reads and writes."""

from __future__ import annotations

from typing import Literal

from openai import Omit, omit
from openai.types.chat.completion_create_params import ResponseFormat
from pydantic import BaseModel, Field

from mica_ray.chat.model import JsonSchema

StructuredOutput = Literal["json_schema", "json_object", "none"]


class CompletionMessage(BaseModel):
    """What the model said; servers name what it thought in one of two ways."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class CompletionChoice(BaseModel):
    """One answer and why it ended."""

    message: CompletionMessage
    finish_reason: str | None = None


class CompletionUsage(BaseModel):
    """What is billed."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class EndpointCompletion(BaseModel):
    """A chat completion."""

    choices: list[CompletionChoice] = Field(min_length=1)
    model: str | None = None
    usage: CompletionUsage | None = None


def response_format(support: StructuredOutput, schema: JsonSchema | None) -> ResponseFormat | Omit:
    """Give what enforces a schema, as far as the endpoint can."""
    if schema is None or support == "none":
        return omit
    if support == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)}}
