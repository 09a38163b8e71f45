"""The body of /v1/chat/completions, validated and converted to a `ChatRequest`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.backend import ChatRequest
from mica_ray.serving.http.json_body import RequestBody, invalid_field, read_object
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.openai.messages import ChatMessage, plain_messages
from mica_ray.serving.openai.reply_fields import (
    JSON_OBJECT,
    MAX_CHOICES,
    MAX_TOP_LOGPROBS,
    JsonFormat,
    SamplingFields,
    TokenLimit,
    supported_fields,
)
from mica_ray.serving.openai.tool_fields import (
    MAX_TOOLS,
    FunctionFields,
    ToolChoice,
    schema_of_calls,
    tool_use,
)

_UNSUPPORTED = ("audio", "functions", "function_call", "modalities", "prediction", "web_search_options")
"""Fields of OpenAI's API that these models cannot serve; accepted with a value that requests nothing."""


class _StreamOptions(RequestBody):
    include_usage: bool = False
    include_obfuscation: bool = False

    @classmethod
    def place(cls) -> str:
        return "stream_options"


class _ResponseFormat(RequestBody):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonFormat | None = Field(default=None, validate_default=True)

    @field_validator("json_schema")
    @classmethod
    def _belongs_to_type(cls, schema: JsonFormat | None, info: Any) -> JsonFormat | None:
        if info.data.get("type") == "json_schema" and schema is None:
            raise ValueError("the type json_schema needs it")
        return schema

    @classmethod
    def place(cls) -> str:
        return "response_format"

    def schema_of_reply(self) -> Mapping[str, object] | None:
        if self.type == "json_schema" and self.json_schema is not None:
            return self.json_schema.schema_ or JSON_OBJECT
        return JSON_OBJECT if self.type == "json_object" else None


class _Tool(RequestBody):
    type: Literal["function"] = "function"
    function: FunctionFields

    @classmethod
    def place(cls) -> str:
        return "tools[]"


class _Body(SamplingFields):
    model: str = ""
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: _StreamOptions = _StreamOptions()
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    response_format: _ResponseFormat = _ResponseFormat(type="text")
    tools: list[_Tool] = Field(default_factory=list[_Tool], max_length=MAX_TOOLS)
    tool_choice: ToolChoice = ToolChoice(mode="auto")
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any], max_length=16)
    # Clients send these by default; they change no reply here.
    user: object = None
    store: object = None
    service_tier: object = None
    parallel_tool_calls: object = None
    safety_identifier: object = None
    prompt_cache_key: object = None
    verbosity: object = None


@dataclass(frozen=True, slots=True)
class ChatBody:
    """A request for a completion, and the form of its response."""

    request: ChatRequest
    num_choices: int
    includes_usage: bool
    """Whether a stream ends with a chunk of the usage."""
    locale: str | None
    """metadata.locale, for the help line."""


def read_chat_body(content: bytes, settings: ServeSettings) -> ChatBody:
    """Read and validate a body.

    Raises:
        ApiError: 400, names the field at fault and does not quote the conversation.
    """
    fields = supported_fields(read_object(content), _UNSUPPORTED)
    check_count(fields.get("messages"), settings, param="messages")
    try:
        body = _Body.model_validate(fields)
    except ValidationError as error:
        raise invalid_field(error) from error
    return ChatBody(
        request=_request(body, settings),
        num_choices=body.n,
        includes_usage=body.stream_options.include_usage,
        locale=locale_in(body.metadata),
    )


def check_count(messages: object, settings: ServeSettings, *, param: str) -> None:
    """Check the number of messages before each is validated: ten thousand are rejected as fast as one.

    Raises:
        ApiError: 400, there are too many.
    """
    if isinstance(messages, list) and len(messages) > settings.max_messages:
        raise ApiError(
            400,
            f"{param} has {len(messages)} entries, the limit is {settings.max_messages}. "
            "Leave out the oldest ones.",
            param=param,
            code="too_many_messages",
        )


def locale_in(metadata: Mapping[str, Any]) -> str | None:
    """Return metadata.locale.

    Raises:
        ApiError: 400, it is not a text.
    """
    locale = metadata.get("locale")
    if locale is not None and not isinstance(locale, str):
        raise ApiError(400, "metadata.locale must be a text. Correct it.", param="metadata.locale")
    return locale


def _request(body: _Body, settings: ServeSettings) -> ChatRequest:
    if body.top_logprobs and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs. Set logprobs to true.", param="top_logprobs")
    top_logprobs = (body.top_logprobs or 0) if body.logprobs else None
    places = [f"messages[{index}]" for index in range(len(body.messages))]
    use = tool_use(body.messages, [tool.function for tool in body.tools], body.tool_choice, places=places)
    schema = schema_of_calls(use) or body.response_format.schema_of_reply()
    return ChatRequest(
        model=body.model,
        messages=plain_messages(body.messages, settings, places=places),
        sampling=body.sampling(body.max_completion_tokens or body.max_tokens, settings),
        is_streamed=body.stream,
        options=body.options(top_logprobs, schema),
        template_arguments=body.template_arguments(),
        tool_use=use,
    )
