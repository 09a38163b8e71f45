"""Checks with OpenAI's client, for a service whose context has 256 tokens."""

from __future__ import annotations

import openai
import pytest


async def check_with_official_client(address: str) -> None:
    client = openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=300)
    fields = {"model": "support", "seed": 1, "max_tokens": 8}
    messages = [{"role": "user", "content": "I lost my job."}]
    whole = await client.chat.completions.create(messages=messages, **fields)  # pyright: ignore
    stream = await client.chat.completions.create(messages=messages, stream=True, **fields)  # pyright: ignore
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert whole.usage.completion_tokens <= 8
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(
            model="support", messages=[{"role": "user", "content": "long " * 300}]
        )
    assert refused.value.code == "context_length_exceeded"
