"""The functions that a reply may call: the fields of a request, and the schema of a forced call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.backend import ToolUse
from mica_ray.serving.http.json_body import RequestBody
from mica_ray.serving.openai.json_schema import check_schema
from mica_ray.serving.openai.messages import ChatMessage
from mica_ray.serving.openai.reply_fields import JSON_OBJECT

MAX_TOOLS = 128
"""OpenAI's limit."""
_Mode = Literal["auto", "none", "required"]


class FunctionFields(RequestBody):
    """A function that the model may call."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    strict: bool = False

    @field_validator("parameters")
    @classmethod
    def _can_be_enforced(cls, schema: dict[str, Any]) -> dict[str, Any]:
        check_schema(schema)
        return schema

    @classmethod
    def place(cls) -> str:
        """Return the path of this object in a body, for the log."""
        return "tools[].function"

    def for_template(self) -> Mapping[str, object]:
        """Return the tool as chat templates read it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


class _NamedFunction(RequestBody):
    name: str

    @classmethod
    def place(cls) -> str:
        return "tool_choice.function"


class ToolChoice(RequestBody):
    """Whether and what to call: a mode as text, or a function by its name."""

    type: Literal["function"] = "function"
    mode: _Mode | None = None
    function: _NamedFunction | None = None
    name: str | None = None
    """Of the function, where /v1/responses has it."""

    @model_validator(mode="before")
    @classmethod
    def _from_mode(cls, choice: Any) -> Any:
        if isinstance(choice, str):
            if choice not in get_args(_Mode):
                raise ValueError(f"it must be one of {', '.join(get_args(_Mode))}, or name a function")
            return {"mode": choice}
        return choice

    @model_validator(mode="after")
    def _names_something(self) -> ToolChoice:
        if not self.chosen:
            raise ValueError("it names no function")
        return self

    @classmethod
    def place(cls) -> str:
        """Return the path of this object in a body, for the log."""
        return "tool_choice"

    @property
    def chosen(self) -> str:
        """The mode or the function's name."""
        return self.mode or (self.function.name if self.function is not None else self.name or "")


def tool_use(
    messages: Sequence[ChatMessage],
    functions: Sequence[FunctionFields],
    choice: ToolChoice,
    *,
    places: Sequence[str],
) -> ToolUse | None:
    """Return the tools that the model sees and the conversation with their calls; None without either.

    Args:
        messages: the conversation.
        functions: that the client offers.
        choice: of the client.
        places: path of each message in the body.

    Raises:
        ApiError: 400, the choice names no function.
    """
    names = [function.name for function in functions]
    is_named = choice.mode is None
    if (is_named and choice.chosen not in names) or (choice.mode == "required" and not names):
        raise ApiError(400, "tool_choice names no function of tools. Add it to tools.", param="tool_choice")
    tools = () if choice.mode == "none" else tuple(function.for_template() for function in functions)
    needing = [place for message, place in zip(messages, places, strict=True) if message.needs_tools]
    if not tools and not needing:
        return None
    shown = tuple(message.for_template() for message in messages)
    return ToolUse(tools, shown, choice.chosen, "tools" if tools else needing[0])


def schema_of_calls(use: ToolUse | None) -> Mapping[str, object] | None:
    """Return the schema of a call that the client forces; None if it forces none.

    Raises:
        ApiError: 400, the parameters refer to parts of their own schema, which has another root here.
    """
    if use is None or use.choice in ("auto", "none"):
        return None
    schemas: list[Mapping[str, object]] = []
    for tool in use.tools:
        function = tool["function"]
        assert isinstance(function, Mapping)
        if use.choice not in ("required", function["name"]):
            continue
        parameters = function["parameters"] or JSON_OBJECT
        if '"$ref"' in json.dumps(parameters):
            problem = "The parameters of a forced call must not contain $ref. Write the schema without it."
            raise ApiError(400, problem, param="tools")
        schemas.append(
            {
                "type": "object",
                "properties": {"name": {"enum": [function["name"]]}, "arguments": parameters},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
