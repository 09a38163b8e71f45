from __future__ import annotations

import openai
import pytest

from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.web_app import create_app
from tests.serving.local_service import served
from tests.serving.scripted_backend import ScriptedBackend


async def test_the_official_client_streams_a_reply_with_its_usage() -> None:
    backend = ScriptedBackend()
    async with served(create_app(backend, ServeSettings())) as address:
        client = openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        assert [model.id for model in (await client.models.list()).data] == ["support"]
        stream = await client.chat.completions.create(
            model="support",
            messages=[{"role": "user", "content": "I lost my job."}],
            stream=True,
            stream_options={"include_usage": True},
            seed=3,
            temperature=0.5,
            top_p=0.9,
            stop=["\n"],
            max_completion_tokens=12,
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "That sounds heavy."
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    usage = chunks[-1].usage
    assert usage is not None and (usage.prompt_tokens, usage.completion_tokens) == (7, 3)
    sampling = backend.requests[0].sampling
    assert (sampling.seed, sampling.temperature, sampling.top_p) == (3, 0.5, 0.9)
    assert (sampling.stop, sampling.max_tokens) == (("\n",), 12)


async def test_the_official_client_gets_a_whole_reply() -> None:
    async with served(create_app(ScriptedBackend(), ServeSettings())) as address:
        client = openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        reply = await client.chat.completions.create(
            model="support", messages=[{"role": "user", "content": "I lost my job."}]
        )
    assert reply.choices[0].message.content == "That sounds heavy."
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None and reply.usage.total_tokens == 10  # 7 + 3, as the backend counts


async def test_an_unknown_model_is_not_found() -> None:
    async with served(create_app(ScriptedBackend(), ServeSettings())) as address:
        client = openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.NotFoundError) as refused:
            await client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "hi"}])
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
