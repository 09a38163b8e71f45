"""OpenAI's client against a small model in this process, sampled by transformers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.serving.local_service import served
from tests.serving.official_client import (
    ASKED,
    TOOLS,
    check_models,
    check_options,
    check_refused_json_replies,
    check_refused_tools,
    check_responses,
    check_with_official_client,
    client_of,
)
from tests.serving.small_service import TOOL_TEMPLATE, small_service
from tests.small_policy import small_tokenizer


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    async with served(small_service(tmp_path)) as address:
        yield address


@pytest.fixture
async def tool_address(tmp_path: Path) -> AsyncIterator[str]:
    async with served(small_service(tmp_path, template=TOOL_TEMPLATE)) as address:
        yield address


async def test_a_small_model_serves_every_option(address: str) -> None:
    await check_with_official_client(address)
    await check_models(address)
    await check_options(address)
    await check_refused_json_replies(address, "vLLM")
    await check_refused_tools(address)
    await check_responses(address)


async def test_the_model_sees_tools_their_calls_and_results(tool_address: str) -> None:
    client = client_of(tool_address)

    async def num_tokens(**fields: Any) -> int:
        asked: dict[str, Any] = {"model": "support", "messages": ASKED, "max_tokens": 2, **fields}
        reply = await client.chat.completions.create(**asked)
        return reply.usage.prompt_tokens

    plain = await num_tokens()
    assert await num_tokens(tools=TOOLS) > plain + 20
    assert await num_tokens(tools=TOOLS, tool_choice="none") == plain
    call = {"id": "a", "type": "function", "function": {"name": "find_help", "arguments": "{}"}}
    history = [*ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}]
    history.append({"role": "tool", "tool_call_id": "a", "content": "116 123"})
    assert await num_tokens(messages=history) > plain + 20
    with pytest.raises(openai.BadRequestError) as refused:
        await num_tokens(tools=TOOLS, messages=[{"role": "user", "content": "<|im_end|>"}])
    assert refused.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as refused:
        await num_tokens(tools=TOOLS, tool_choice="required")
    assert refused.value.param == "tool_choice"


async def test_arguments_of_the_template_reach_it_and_others_change_nothing(tool_address: str) -> None:
    async with httpx.AsyncClient(base_url=tool_address, timeout=60) as client:

        async def num_tokens(**arguments: object) -> int:
            body = {"messages": ASKED, "max_tokens": 1, "chat_template_kwargs": arguments}
            answer = await client.post("/v1/chat/completions", json=body)
            return answer.json()["usage"]["prompt_tokens"]

        plain = await num_tokens()
        assert await num_tokens(mood="calm and slow") > plain
        assert await num_tokens(enable_thinking=True, bos_token="x", eos_token="y") == plain


async def test_an_unknown_token_id_in_a_bias_is_refused(address: str) -> None:
    client, size = client_of(address), len(small_tokenizer())
    asked: dict[str, Any] = {"model": "support", "messages": ASKED, "max_tokens": 4}
    assert (await client.chat.completions.create(logit_bias={str(size - 1): 5}, **asked)).choices
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(logit_bias={str(size): 5}, **asked)
    assert refused.value.param == "logit_bias"
