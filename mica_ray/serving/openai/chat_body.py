"""The body of /v1/chat/completions, validated and converted to a `ChatRequest`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.backend import ChatRequest
from mica_ray.serving.http.json_body import check_text, invalid_field, read_object
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.types import Message, Sampling

_UNSUPPORTED = (
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "response_format",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "audio",
    "modalities",
    "prediction",
    "web_search_options",
    "presence_penalty",
    "frequency_penalty",
)
"""Fields of OpenAI's API that these models cannot serve; accepted with a value that requests nothing."""

_NEUTRAL_VALUES: tuple[object, ...] = (None, False, 0, 0.0, "none", "auto")
_IGNORED = (
    "user",
    "store",
    "service_tier",
    "parallel_tool_calls",
    "safety_identifier",
    "prompt_cache_key",
    "reasoning_effort",
    "verbosity",
)
"""Fields that clients send by default and that change no reply here."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Part(_Strict):
    type: Literal["text"]
    text: str


class _MessageFields(BaseModel):
    # Clients send an assistant's message back as they received it, with fields that mean nothing here.
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]
    tool_calls: None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(p.text for p in self.content)


class _StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False


class _Body(_Strict):
    model: str = ""
    messages: list[_MessageFields] = Field(min_length=1)
    stream: bool = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: Literal[1] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None


@dataclass(frozen=True, slots=True)
class ChatBody:
    """A request for a completion, and the form of its response."""

    request: ChatRequest
    includes_usage: bool
    """Whether a stream ends with a chunk of the usage."""
    locale: str | None
    """metadata.locale, for the help line."""


def read_chat_body(content: bytes, settings: ServeSettings) -> ChatBody:
    """Read and validate a body.

    Raises:
        ApiError: 400, names the field at fault and does not quote the conversation.
    """
    fields = _supported_fields(read_object(content))
    messages = fields.get("messages")
    if isinstance(messages, list) and len(messages) > settings.max_messages:
        # Checked before each message is validated: ten thousand are rejected as fast as one.
        raise ApiError(
            400,
            f"messages has {len(messages)} entries, the limit is {settings.max_messages}. "
            "Leave out the oldest ones.",
            param="messages",
            code="too_many_messages",
        )
    try:
        body = _Body.model_validate(fields)
    except ValidationError as error:
        raise invalid_field(error) from error
    return ChatBody(
        request=ChatRequest(
            model=body.model,
            messages=_messages(body.messages, settings),
            sampling=_sampling(body, settings),
            is_streamed=body.stream,
        ),
        includes_usage=body.stream_options is not None and body.stream_options.include_usage,
        locale=(body.metadata or {}).get("locale"),
    )


def _supported_fields(fields: Mapping[str, object]) -> dict[str, object]:
    for name in _UNSUPPORTED:
        value = fields.get(name)
        is_neutral = value in _NEUTRAL_VALUES or value == [] or value == {} or value == {"type": "text"}
        if not is_neutral:
            raise ApiError(
                400,
                f"{name} is not supported by this service. Leave it out.",
                param=name,
                code="unsupported_parameter",
            )
    return {name: value for name, value in fields.items() if name not in (*_UNSUPPORTED, *_IGNORED)}


def _messages(sent: list[_MessageFields], settings: ServeSettings) -> tuple[Message, ...]:
    for index, message in enumerate(sent):
        check_text(message.text, settings, where=f"messages.{index}", param="messages")
    if sent[-1].role != "user":
        raise ApiError(400, "The last message must have the role user.", param="messages")
    return tuple({"role": "system" if m.role == "developer" else m.role, "content": m.text} for m in sent)


def _sampling(body: _Body, settings: ServeSettings) -> Sampling:
    max_tokens = body.max_completion_tokens or body.max_tokens or settings.default_reply_tokens
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if any(not text or len(text) > 256 for text in stop):
        raise ApiError(400, "Each text in stop must have 1 to 256 characters.", param="stop")
    return Sampling(
        temperature=settings.default_temperature if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        max_tokens=min(max_tokens, settings.max_reply_tokens),
        seed=body.seed,
        stop=stop,
    )
