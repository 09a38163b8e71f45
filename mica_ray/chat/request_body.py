"""The body of a request to an endpoint, in the shape that its config asks for, and what a rejected one needs.

A value at the API's default is not sent: many endpoints reject the field even then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mica_ray.chat.endpoint import SHAPED_FIELDS, Endpoint, StructuredOutput
from mica_ray.chat.error_body import EndpointError, message_of
from mica_ray.chat.model import JsonSchema
from mica_ray.types import Message, Sampling
from mica_ray.valid_text import valid_json

_FORMAT_WORDS = re.compile(
    r"json[ _]?(?:schema|object|mode)|(?:response|output)[ _]format|structured[ _]output", re.I
)
"""Other names of response_format in error messages."""
_TOO_LARGE = re.compile(
    r"\btoo (?:large|high|long|big)\b|\bat most\b|\bmaximum\b|\bexceeds?\b|\bless than\b|<=", re.I
)
"""Whether a number of tokens is rejected for its value and not for its name."""


def request_body(
    endpoint: Endpoint, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None
) -> dict[str, object]:
    """Return the JSON body of a chat completion request.

    Args:
        endpoint: whose config omits, renames and adds fields.
        messages: the conversation.
        sampling: sampling parameters.
        schema: JSON schema of the answer, None for free text.
    """
    wanted = {
        "temperature": _temperature(endpoint, sampling),
        "top_p": None if sampling.top_p == 1.0 else sampling.top_p,
        "presence_penalty": sampling.presence_penalty or None,
        endpoint.token_limit_name: sampling.max_tokens,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
        "response_format": _response_format(endpoint.structured_output, schema),
    }
    sent = {name: value for name, value in wanted.items() if value is not None and name not in endpoint.omit}
    renamed = {endpoint.rename.get(name, name): value for name, value in sent.items()}
    return {"model": endpoint.model, "messages": valid_json(messages), **renamed, **endpoint.extra_body}


def _temperature(endpoint: Endpoint, sampling: Sampling) -> float | None:
    if endpoint.temperature is not None:
        return endpoint.temperature
    return None if sampling.temperature == 1.0 else sampling.temperature


def _response_format(support: StructuredOutput, schema: JsonSchema | None) -> Mapping[str, object] | None:
    """Return the response format that enforces a schema as far as the endpoint supports it."""
    if schema is None or support == "none":
        return None
    if support == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)}}


def remedy_for(error: EndpointError, endpoint: Endpoint, sent: Mapping[str, object]) -> str | None:
    """Return the setting of the endpoint that avoids a rejected field; None if the error names no field.

    Args:
        error: what the endpoint says.
        endpoint: its config.
        sent: body of the rejected request.
    """
    original = {new: old for old, new in endpoint.rename.items()}
    name = error.parameter(field for field in sent if field not in ("model", "messages"))
    text = message_of(error.payload)
    if name is None and "response_format" in sent and _FORMAT_WORDS.search(text):
        name = "response_format"
    if name is None:
        return None
    if name in endpoint.extra_body:
        return f"Remove {name} from the endpoint's extra_body."
    field = original.get(name, name)
    if field in ("max_tokens", "max_completion_tokens") and _TOO_LARGE.search(text):
        return "Lower roles.max_tokens, or use a model with a longer context."
    if field == "max_tokens" and "max_completion_tokens" in str(error.payload):
        return _setting("token_limit_name", '"max_completion_tokens"')
    if field == "max_completion_tokens":
        return _setting("token_limit_name", '"max_tokens"')
    if field == "response_format":
        weaker = "json_object" if endpoint.structured_output == "json_schema" else "none"
        return _setting("structured_output", f'"{weaker}"')
    if field == "seed" and "random_seed" in str(error.payload):
        return _setting("rename", '{"seed": "random_seed"}')
    omit = [*endpoint.omit, field] if field in SHAPED_FIELDS else list(endpoint.omit)
    return _setting("omit", "[" + ", ".join(f'"{each}"' for each in omit) + "]")


def _setting(key: str, value: str) -> str:
    return f"Set {key}={value} for this endpoint, such as --set 'roles.judge.{key}={value}'."
