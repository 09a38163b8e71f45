"""The messages of a request in OpenAI's form, validated. Text only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.json_body import RequestBody, check_text
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.types import Message
from mica_ray.valid_text import valid_json

MAX_TOOL_CALLS = 64


class Part(RequestBody):
    """One part of a content that is a list."""

    type: Literal["text", "input_text", "output_text", "refusal"]
    text: str | None = Field(default=None, validate_default=True)
    refusal: str = ""
    annotations: object = None
    logprobs: object = None
    prompt_cache_breakpoint: object = None

    @field_validator("text")
    @classmethod
    def _is_there(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is None and info.data.get("type", "refusal") != "refusal":
            raise _missing()
        return text

    @classmethod
    def place(cls) -> str:
        """Return the path of this object in a body, for the log."""
        return "messages[].content[]"


class _Function(RequestBody):
    name: str = Field(min_length=1, max_length=256)
    arguments: str = "{}"

    @field_validator("arguments")
    @classmethod
    def _is_object(cls, arguments: str) -> str:
        try:
            found = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ValueError("it is not a JSON object as text")
        return json.dumps(valid_json(found), ensure_ascii=False)


class ToolCall(RequestBody):
    """A call of a tool that an earlier reply contains."""

    id: str = ""
    type: Literal["function"] = "function"
    index: object = None
    function: _Function

    @classmethod
    def place(cls) -> str:
        """Return the path of this object in a body, for the log."""
        return "messages[].tool_calls[]"


class ChatMessage(RequestBody):
    """One message. Clients send an assistant's message back as they received it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: tuple[Part, ...] = Field(default=(), validate_default=True)
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = Field(default=(), max_length=MAX_TOOL_CALLS)
    tool_call_id: str = ""
    name: str = ""
    # Parts of a received message that no prompt contains.
    audio: object = None
    annotations: object = None
    function_call: object = None
    reasoning_content: object = None
    reasoning: object = None

    @field_validator("content", mode="before")
    @classmethod
    def _as_parts(cls, content: Any) -> Any:
        return as_parts(content)

    @field_validator("content")
    @classmethod
    def _is_there(cls, content: tuple[Part, ...], info: ValidationInfo) -> tuple[Part, ...]:
        if not content and info.data.get("role", "assistant") != "assistant":
            raise _missing()
        return content

    @field_validator("tool_calls")
    @classmethod
    def _is_of_assistant(cls, calls: tuple[ToolCall, ...], info: ValidationInfo) -> tuple[ToolCall, ...]:
        if calls and info.data.get("role", "assistant") != "assistant":
            raise ValueError("only a message of the assistant can have it")
        return calls

    @classmethod
    def place(cls) -> str:
        """Return the path of this object in a body, for the log."""
        return "messages[]"

    @property
    def text(self) -> str:
        """The joined text of all parts; what an assistant refused with counts as its text."""
        return "".join(part.text or part.refusal for part in self.content) or self.refusal

    @property
    def needs_tools(self) -> bool:
        """Whether only a template with tools can render it."""
        return bool(self.tool_calls) or self.role in ("tool", "function")

    def plain(self) -> Message | None:
        """Return the message without its tool calls; None for the result of a tool."""
        if self.role in ("tool", "function"):
            return None
        return {"role": "system" if self.role == "developer" else self.role, "content": self.text}

    def for_template(self) -> Mapping[str, object]:
        """Return the message as chat templates with tools read it, arguments parsed."""
        if self.role in ("tool", "function"):
            names = {"tool_call_id": self.tool_call_id, "name": self.name}
            return {
                "role": "tool",
                "content": self.text,
                **{key: text for key, text in names.items() if text},
            }
        message: dict[str, object] = {**(self.plain() or {})}
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.function.name,
                        "arguments": json.loads(call.function.arguments),
                    },
                }
                for call in self.tool_calls
            ]
        return message


def as_parts(content: Any) -> Any:
    """Return a content as a list of parts.

    Raises:
        ValueError: it is neither a text nor a list.
    """
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list | tuple):
        raise ValueError("it must be a text or a list of parts")
    return content


def plain_messages(
    sent: Sequence[ChatMessage], settings: ServeSettings, *, places: Sequence[str]
) -> tuple[Message, ...]:
    """Return what was said, without calls of tools and their results.

    Args:
        sent: the messages.
        settings: with the maximum length of one.
        places: path of each message in the body.

    Raises:
        ApiError: 400, a message is too long, or nothing was said.
    """
    for message, place in zip(sent, places, strict=True):
        check_text(message.text, settings, param=f"{place}.content")
    messages = tuple(plain for message in sent if (plain := message.plain()) is not None)
    if not messages:
        param = places[0].partition("[")[0]
        raise ApiError(400, f"{param} has only results of tools. Add the user's message.", param=param)
    return messages


def _missing() -> PydanticCustomError:
    return PydanticCustomError("missing", "Field required")
