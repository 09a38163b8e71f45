"""The fields that chat completions and responses share: how to sample, and in which form."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.json_body import RequestBody
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.openai.json_schema import check_schema
from mica_ray.types import ReplyOptions, Sampling

JSON_OBJECT: Mapping[str, object] = {"type": "object"}
MAX_CHOICES = 16
"""Limit of n: each choice is a reply of its own."""
MAX_TOP_LOGPROBS = 20
"""OpenAI's limit, and vLLM's."""
_NEUTRAL_VALUES: tuple[object, ...] = (None, False, "none", "auto", [], {}, ["text"])
_MAX_STOPS = 16
_MAX_STOP_CHARS = 256
_MAX_BIASES = 300
_MAX_TOP_K = 1_000_000
"""No vocabulary is larger."""
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_.,:+ -]{0,64}")
_OWN_ARGUMENTS = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "messages",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tools",
    }
)
"""Arguments of the rendering that the service sets itself."""


def _limit(tokens: int) -> int | None:
    """Convert -1, with which clients ask for no limit of their own, to None."""
    if tokens == -1:
        return None
    if tokens < 1:
        raise ValueError("it must be >= 1, or -1 for no limit of your own")
    return tokens


TokenLimit = Annotated[int, AfterValidator(_limit)]


class SamplingFields(RequestBody):
    """How to sample a reply."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1)
    min_p: float = Field(0.0, ge=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, ge=0.1, le=10)
    logit_bias: dict[str, float] = Field(default_factory=dict[str, float], max_length=_MAX_BIASES)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: tuple[str, ...] = Field((), max_length=_MAX_STOPS)
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict[str, Any], max_length=32)
    reasoning_effort: object = None

    @field_validator("stop", mode="before")
    @classmethod
    def _as_list(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    @field_validator("stop")
    @classmethod
    def _has_usable_texts(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if any(not text or len(text) > _MAX_STOP_CHARS for text in stop):
            raise ValueError(f"each text must have 1 to {_MAX_STOP_CHARS} characters")
        return stop

    @field_validator("logit_bias")
    @classmethod
    def _has_token_ids(cls, bias: dict[str, float]) -> dict[str, float]:
        if not all(re.fullmatch(r"[0-9]{1,9}", token) for token in bias):
            raise ValueError("each key must be a token id")
        if not all(-100 <= value <= 100 for value in bias.values()):
            raise ValueError("each value must be in [-100, 100]")
        return bias

    @field_validator("chat_template_kwargs")
    @classmethod
    def _has_plain_values(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """Check that the arguments are flags and short words: a text could carry control marks."""
        for name, value in arguments.items():
            if name in _OWN_ARGUMENTS:
                raise ValueError("the service sets the prompt's messages, tools and template itself")
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
                raise ValueError("each key must be the name of a template variable")
            is_plain = isinstance(value, bool | int | float) and abs(value) < 2**53
            is_word = isinstance(value, str) and _PLAIN_VALUE.fullmatch(value) is not None
            if value is not None and not is_plain and not is_word:
                raise ValueError("each value must be true, false, a number or a plain word")
        return arguments

    def sampling(self, max_tokens: int | None, settings: ServeSettings) -> Sampling:
        """Return how to sample.

        Args:
            max_tokens: of the client; None for the service's default.
            settings: with defaults and limits.
        """
        return Sampling(
            temperature=settings.default_temperature if self.temperature is None else self.temperature,
            top_p=self.top_p,
            max_tokens=min(max_tokens or settings.default_reply_tokens, settings.max_reply_tokens),
            seed=self.seed,
            stop=self.stop,
        )

    def options(self, top_logprobs: int | None, schema: Mapping[str, object] | None) -> ReplyOptions:
        """Return the other options of a reply."""
        return ReplyOptions(
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            top_k=min(max(0, self.top_k), _MAX_TOP_K),
            min_p=self.min_p,
            logit_bias=tuple(sorted((int(token), value) for token, value in self.logit_bias.items())),
            top_logprobs=top_logprobs,
            schema=schema,
        )

    def template_arguments(self, effort: object = None) -> Mapping[str, bool | int | float | str]:
        """Return the client's arguments of the chat template, reasoning_effort among them.

        Args:
            effort: where another field has it.
        """
        effort = effort or self.reasoning_effort
        is_word = isinstance(effort, str) and _PLAIN_VALUE.fullmatch(effort) is not None
        arguments = {**({"reasoning_effort": effort} if is_word else {}), **self.chat_template_kwargs}
        return {name: value for name, value in arguments.items() if value is not None}


class JsonFormat(RequestBody):
    """A JSON schema that the reply must satisfy."""

    name: str = ""
    description: str = ""
    strict: bool = False
    schema_: dict[str, Any] = Field(default_factory=dict[str, Any], alias="schema")

    @field_validator("schema_")
    @classmethod
    def _can_be_enforced(cls, schema: dict[str, Any]) -> dict[str, Any]:
        check_schema(schema)
        return schema

    @classmethod
    def place(cls) -> str:
        """Return the path of this object in a body, for the log."""
        return "json_schema"


def supported_fields(fields: Mapping[str, object], unsupported: Collection[str]) -> dict[str, object]:
    """Return the fields without those that the service cannot serve.

    Args:
        fields: of a body.
        unsupported: accepted only with a value that requests nothing.

    Raises:
        ApiError: 400, one of them requests something.
    """
    for name in unsupported:
        if fields.get(name) not in _NEUTRAL_VALUES:
            raise ApiError(
                400,
                f"{name} is not supported by this service. Leave it out.",
                param=name,
                code="unsupported_parameter",
            )
    return {name: value for name, value in fields.items() if name not in unsupported}
