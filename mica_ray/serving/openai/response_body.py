"""The body of /v1/responses, validated and converted to a `ChatRequest`. Text only, and nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.backend import ChatRequest
from mica_ray.serving.http.json_body import RequestBody, invalid_field, read_object
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.openai.chat_body import check_count, locale_in
from mica_ray.serving.openai.messages import ChatMessage, Part, ToolCall, as_parts, plain_messages
from mica_ray.serving.openai.reply_fields import (
    JSON_OBJECT,
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

_UNSUPPORTED = ("background", "conversation", "previous_response_id", "prompt", "context_management")
"""Fields that need a service that stores responses; accepted with a value that requests nothing."""
_LOGPROBS = "message.output_text.logprobs"


class _Item(RequestBody):
    """A message, a call of a function, its result, or a thought, which no prompt contains."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = Field(
        default=None, validate_default=True
    )
    content: tuple[Part, ...] = ()
    call_id: str = ""
    name: str = ""
    arguments: str = "{}"
    output: tuple[Part, ...] = ()
    # Parts of a received item that no prompt contains.
    id: object = None
    status: object = None
    summary: object = None
    encrypted_content: object = None
    phase: object = None

    @field_validator("content", "output", mode="before")
    @classmethod
    def _as_parts(cls, content: Any, info: ValidationInfo) -> Any:
        if info.data.get("type") == "reasoning":
            return ()
        return as_parts(content)

    @field_validator("role")
    @classmethod
    def _belongs_to_message(cls, role: str | None, info: ValidationInfo) -> str | None:
        if role is None and info.data.get("type") == "message":
            raise ValueError("a message needs it")
        return role

    @classmethod
    def place(cls) -> str:
        return "input[]"

    def message(self) -> ChatMessage | None:
        """Return the item as a message.

        Raises:
            ValidationError: a part is missing or malformed.
        """
        if self.type == "reasoning":
            return None
        if self.type == "function_call":
            function = {"name": self.name, "arguments": self.arguments}
            call = ToolCall.model_validate({"id": self.call_id, "function": function})
            return ChatMessage(role="assistant", tool_calls=(call,))
        if self.type == "function_call_output":
            return ChatMessage(role="tool", content=self.output, tool_call_id=self.call_id)
        assert self.role is not None
        return ChatMessage(role=self.role, content=self.content)


class _Format(JsonFormat):
    type: Literal["text", "json_object", "json_schema"] = "text"

    @classmethod
    def place(cls) -> str:
        return "text.format"


class _Text(RequestBody):
    format: _Format = _Format()
    verbosity: object = None

    @classmethod
    def place(cls) -> str:
        return "text"


class _Tool(FunctionFields):
    type: Literal["function"]

    @classmethod
    def place(cls) -> str:
        return "tools[]"


class _Reasoning(RequestBody):
    effort: object = None
    summary: object = None
    generate_summary: object = None
    context: object = None

    @classmethod
    def place(cls) -> str:
        return "reasoning"


class _Body(SamplingFields):
    model: str = ""
    input: list[_Item] = Field(min_length=1)
    instructions: str = ""
    stream: bool = False
    max_output_tokens: TokenLimit | None = None
    text: _Text = _Text()
    tools: list[_Tool] = Field(default_factory=list[_Tool], max_length=MAX_TOOLS)
    tool_choice: ToolChoice = ToolChoice(mode="auto")
    include: list[str] = Field(default_factory=list[str], max_length=32)
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    reasoning: _Reasoning = _Reasoning()
    truncation: Literal["disabled"] = "disabled"
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any], max_length=16)
    # Clients send these by default; they change no reply here.
    stream_options: object = None
    store: object = None
    user: object = None
    service_tier: object = None
    parallel_tool_calls: object = None
    max_tool_calls: object = None
    safety_identifier: object = None
    prompt_cache_key: object = None
    prompt_cache_retention: object = None

    @field_validator("input", mode="before")
    @classmethod
    def _as_items(cls, sent: Any) -> Any:
        return [{"role": "user", "content": sent}] if isinstance(sent, str) else sent


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """A request for a response, and what the response repeats of it."""

    request: ChatRequest
    locale: str | None
    """metadata.locale, for the help line."""
    repeated: Mapping[str, object]
    """Fields of the body that the response has too."""


def read_response_body(content: bytes, settings: ServeSettings) -> ResponseBody:
    """Read and validate a body.

    Raises:
        ApiError: 400, names the field at fault and does not quote the conversation.
    """
    fields = supported_fields(read_object(content), _UNSUPPORTED)
    check_count(fields.get("input"), settings, param="input")
    try:
        body = _Body.model_validate(fields)
        messages, places = _messages(body)
    except ValidationError as error:
        raise invalid_field(error) from error
    if not messages:
        raise ApiError(400, "input has no message. Add the user's message.", param="input")
    use = tool_use(messages, body.tools, body.tool_choice, places=places)
    schema = schema_of_calls(use) or _schema(body.text.format)
    has_logprobs = _LOGPROBS in body.include or body.top_logprobs is not None
    request = ChatRequest(
        model=body.model,
        messages=plain_messages(messages, settings, places=places),
        sampling=body.sampling(body.max_output_tokens, settings),
        is_streamed=body.stream,
        options=body.options((body.top_logprobs or 0) if has_logprobs else None, schema),
        template_arguments=body.template_arguments(body.reasoning.effort),
        tool_use=use,
    )
    return ResponseBody(request, locale_in(body.metadata), _repeated(body, fields, request))


def _messages(body: _Body) -> tuple[list[ChatMessage], list[str]]:
    """Return the messages, calls that follow each other in one, and their places in the body."""
    messages, places = list[ChatMessage](), list[str]()
    if body.instructions:
        messages.append(ChatMessage(role="system", content=(Part(type="text", text=body.instructions),)))
        places.append("instructions")
    for index, item in enumerate(body.input):
        try:
            message = item.message()
        except ValidationError as error:
            place = f"input[{index}].{_field(item, str(invalid_field(error).param))}"
            raise ApiError(400, f"{place} is missing or invalid. Correct it.", param=place) from error
        if message is None:
            continue
        before = messages[-1] if messages else None
        if item.type == "function_call" and before is not None and before.role == "assistant":
            calls = (*before.tool_calls, *message.tool_calls)
            messages[-1] = ChatMessage(role="assistant", content=before.content, tool_calls=calls)
        else:
            messages.append(message)
            places.append(f"input[{index}]")
    return messages, places


def _field(item: _Item, field: str) -> str:
    """Return the item's own field for one of the message that it became."""
    if item.type == "function_call":
        return {"function.name": "name", "function.arguments": "arguments"}.get(field, field)
    return "output" if item.type == "function_call_output" else field


def _schema(form: _Format) -> Mapping[str, object] | None:
    if form.type == "json_schema":
        return form.schema_ or JSON_OBJECT
    return JSON_OBJECT if form.type == "json_object" else None


def _repeated(body: _Body, fields: Mapping[str, object], request: ChatRequest) -> dict[str, object]:
    form: dict[str, object] = {"type": body.text.format.type}
    if body.text.format.type == "json_schema":
        form |= {
            "name": body.text.format.name,
            "schema": body.text.format.schema_,
            "strict": body.text.format.strict,
        }
    return {
        "instructions": body.instructions or None,
        "max_output_tokens": body.max_output_tokens,
        "metadata": {name: value for name, value in body.metadata.items() if isinstance(value, str)},
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        "text": {"format": form},
        "tools": [_tool_json(tool) for tool in body.tools],
        "tool_choice": fields.get("tool_choice") or "auto",
        "top_logprobs": request.options.top_logprobs or 0,
    }


def _tool_json(tool: _Tool) -> dict[str, object]:
    shown = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", **shown, "strict": tool.strict}
