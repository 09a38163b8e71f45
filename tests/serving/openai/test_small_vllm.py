"""OpenAI's client against a small model that vLLM samples in this process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.local_service import served
from tests.serving.official_client import (
    ASKED,
    TOOLS,
    check_json_replies,
    check_models,
    check_options,
    check_responses,
    check_with_official_client,
    client_of,
)
from tests.serving.small_service import TOOL_TEMPLATE, small_service
from tests.small_policy import small_tokenizer

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    # A prompt with one tool has 236 tokens, and a call of it 46 to 48.
    app = small_service(tmp_path, template=TOOL_TEMPLATE, sampler="vllm", context_length=512)
    async with served(app) as address:
        yield address


HOSTILE: list[dict[str, Any]] = [
    {"stop": ["\ud800", "\0", "\u2028"]},
    {"logit_bias": {"369": 100, "0": -100}},
    {"logit_bias": {"370": 1}},
    {"top_k": 10**18},
    {"seed": -(2**63)},
    {"seed": -1},
    {"temperature": 1e-300},
    {"top_p": 1e-300},
    {"min_p": 1.0, "top_k": 1, "temperature": 2},
    {"repetition_penalty": 10, "presence_penalty": 2, "frequency_penalty": 2},
    {"logprobs": True, "top_logprobs": 20},
    {"n": 16},
    {"response_format": {"type": "json_object"}, "stop": ["{"]},
]
SCHEMAS: list[dict[str, Any]] = [
    {"$ref": "#"},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    {"anyOf": [{"$ref": "#"}]},
    {"type": "string", "pattern": "(a+)+$"},
    {"type": "string", "pattern": "("},
    {"type": "string", "pattern": "[\ud800]"},
    {"type": "array", "items": {"type": "array", "items": {"$ref": "#"}}, "minItems": 1024},
    {"type": "object", "properties": {"\0": {"enum": ["\u2028", None, 1.5]}}},
    {"type": "number", "multipleOf": 0.1},
    {"not": {}},
    {"format": "date-time"},
    {"type": "integer", "minimum": 10**30},
    {"allOf": [{"type": "string"}, {"type": "integer"}]},
    {"enum": [{}]},
    {},
]


async def test_vllm_serves_every_option_and_survives_hostile_ones(address: str) -> None:
    await check_with_official_client(address)
    await check_models(address)
    await check_options(address)
    await check_json_replies(address)
    await check_responses(address)
    formats = [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}
        for schema in SCHEMAS
    ]
    async with httpx.AsyncClient(base_url=address, timeout=120) as client:
        for fields in [*HOSTILE, *formats]:
            body = json.dumps({"messages": ASKED, "max_tokens": 4, **fields})
            headers = {"content-type": "application/json"}
            answer = await client.post("/v1/chat/completions", content=body, headers=headers)
            assert answer.status_code in (200, 400), (fields, answer.text)
            # The engine still works.
            whole = await client.post("/v1/chat/completions", json={"messages": ASKED, "max_tokens": 2})
            assert whole.status_code == 200, fields


def is_blank(token: int) -> bool:
    text = small_tokenizer().decode([token])
    return isinstance(text, str) and text.isspace()


async def test_a_forced_call_is_a_call(address: str) -> None:
    client = client_of(address)
    tool: Any = TOOLS[0]["function"] | {
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Graz", "Linz"]}},
            "required": ["city"],
            "additionalProperties": False,
        }
    }
    asked: dict[str, Any] = {
        "model": "support",
        "messages": ASKED,
        "tools": [{"type": "function", "function": tool}],
        "max_tokens": 160,
        # Without white space, which a random model writes until its limit.
        "logit_bias": {str(token): -100 for token in range(len(small_tokenizer())) if is_blank(token)},
    }
    choices: list[Any] = ["required", {"type": "function", "function": {"name": "find_help"}}]
    for choice in choices:
        reply = await client.chat.completions.create(tool_choice=choice, **asked)
        assert reply.choices[0].finish_reason == "tool_calls"
        (call,) = reply.choices[0].message.tool_calls or []
        assert json.loads(call.function.arguments)["city"] in ("Graz", "Linz")  # type: ignore[union-attr]
        assert reply.choices[0].message.content is None
        stream = await client.chat.completions.create(tool_choice=choice, stream=True, **asked)
        deltas = [chunk.choices[0].delta async for chunk in stream]
        calls = [call for delta in deltas for call in delta.tool_calls or []]
        assert [call.function.name for call in calls if call.function] == ["find_help"]
