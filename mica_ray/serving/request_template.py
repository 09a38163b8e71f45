"""What a model's chat template does with the parts of a request that training has not: tools, arguments.

Nothing that a client sends becomes a control token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mica_ray.error_lines import first_line
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Arguments = Mapping[str, bool | int | float | str]

_PROBE = "probe7Q0"
_PROBE_TOOL: Mapping[str, object] = {
    "type": "function",
    "function": {"name": _PROBE, "description": "Probe.", "parameters": {"type": "object", "properties": {}}},
}
_PROBE_MESSAGES: Sequence[Mapping[str, object]] = (
    {"role": "user", "content": "Hi"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "abcdefghi", "type": "function", "function": {"name": _PROBE, "arguments": {"a": 1}}}
        ],
    },
    {"role": "tool", "content": "Result7Q0", "tool_call_id": "abcdefghi", "name": _PROBE},
)
_MAX_VARIANTS = 32
"""Templates with a client's arguments that are kept: each is probed when it is made."""


class RequestTemplate:
    """Consumes the messages of a request, produces token ids.

    Args:
        template: of the model.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._variants: dict[tuple[tuple[str, object], ...], ChatTemplate] = {}

    def with_arguments(self, arguments: Arguments) -> ChatTemplate:
        """Return the template with a client's arguments; those that it does not read change nothing.

        Raises:
            EngineError: the template cannot render a dialogue with them.
        """
        used = {name: value for name, value in arguments.items() if self._reads(name)}
        if not used:
            return self._template
        key = tuple(sorted((name, (type(value).__name__, value)) for name, value in used.items()))
        if key not in self._variants:
            if len(self._variants) >= _MAX_VARIANTS:
                self._variants.clear()
            merged: dict[str, Any] = {**self._template.arguments, **used}
            try:
                self._variants[key] = ChatTemplate(
                    self._tokenizer, arguments=merged, history=self._template.history
                )
            except Exception as error:  # A template is a program, and these are a client's values.
                raise EngineError(
                    f"The chat template rejects its arguments ({first_line(error)})."
                ) from error
        return self._variants[key]

    @cached_property
    def takes_tools(self) -> bool:
        """Whether it shows the model tools, their calls and their results."""
        try:
            text = self._render(_PROBE_MESSAGES, (_PROBE_TOOL,), {})
        except EngineError:
            return False
        return text.count(_PROBE) >= 2 and "Result7Q0" in text

    def tool_prompt(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]],
        arguments: Arguments,
    ) -> tuple[int, ...]:
        """Return the prompt of a reply that may call tools. Check with `has_marks` first.

        Raises:
            EngineError: the template rejects the messages.
        """
        text = self._render(
            messages, tools, {name: arguments[name] for name in arguments if self._reads(name)}
        )
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def has_marks(self, value: object) -> bool:
        """Whether a string in a JSON value spells a control mark."""
        return any(self._template.spells_marks(text) for text in _texts(value))

    def plain_tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text that spells no control token."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens."""
        return len(self._tokenizer)

    @property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return self._template.tokenizer

    def _reads(self, name: str) -> bool:
        source = str(self._tokenizer.chat_template)
        return not name.endswith("_token") and re.search(rf"\b{re.escape(name)}\b", source) is not None

    def _render(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[Mapping[str, object]],
        arguments: Arguments,
    ) -> str:
        options: dict[str, Any] = {
            **self._template.arguments,
            **arguments,
            "chat_template": self._template.source,
            "tokenize": False,
            "add_generation_prompt": True,
            "tools": [dict(tool) for tool in tools] or None,
        }
        try:
            conversation: Any = [dict(message) for message in messages]
            return str(self._tokenizer.apply_chat_template(conversation, **options))
        except Exception as error:  # A template is a program, and these are a client's values.
            raise EngineError(f"The chat template rejects the messages ({first_line(error)}).") from error


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
