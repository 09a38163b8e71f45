"""The part of the chat completions protocol that chat/openai_api.py reads and writes."""

from __future__ import annotations

from typing import Literal

from openai import Omit, omit
from openai.types.chat.completion_create_params import ResponseFormat
from pydantic import BaseModel, Field

from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.chat.thinking import UnclosedThoughtError, split_thinking

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


def read_reply(body: str, *, model: str, endpoint: str) -> ChatReply:
    """Read the reply from a response body.

    Args:
        body: the response as JSON.
        model: name of the requested model, if the response names none.
        endpoint: name of the endpoint, for errors.

    Raises:
        ValueError: the body is not a chat completion.
        ChatError: the completion has no text.
    """
    completion = EndpointCompletion.model_validate_json(body)
    choice, usage = completion.choices[0], completion.usage or CompletionUsage()
    spoken, problem = None, f"the answer is empty (finish reason {choice.finish_reason}). "
    reasoning = choice.message.reasoning_content or choice.message.reasoning or ""
    try:
        spoken = split_thinking(choice.message.content or "", reasoning)
    except UnclosedThoughtError as error:
        problem = str(error)
    else:
        remedy = "Raise max_tokens, or turn the model's thinking off."
        problem += remedy if choice.finish_reason == "length" else "The model or its filter declined."
    if spoken is None or not spoken.text:
        # Not transient: a retry would repeat the same request with the same seed.
        raise ChatError(
            f"{endpoint}: {problem}",
            kind="content",
            endpoint=endpoint,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )
    return ChatReply(
        text=spoken.text,
        model=completion.model or model,
        thinking=spoken.thinking,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )
