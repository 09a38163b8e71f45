"""Checks with OpenAI's client, for a served model whose context has at least 256 tokens."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

SUPPORT = "support"
"""The model that is checked by default."""
ASKED: list[Any] = [{"role": "user", "content": "I lost my job."}]
LONG: list[Any] = [{"role": "user", "content": "long " * 4000}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {"name": "find_help", "parameters": {"type": "object", "properties": {}}},
    }
]
MOOD = {
    "type": "object",
    "properties": {"mood": {"enum": ["sad", "calm"]}},
    "required": ["mood"],
    "additionalProperties": False,
}


def client_of(address: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=300)


async def check_with_official_client(address: str, model: str = SUPPORT) -> None:
    """Check the basics: a whole and a streamed reply are equal, and a long conversation is refused."""
    client = client_of(address)
    fields = {"model": model, "seed": 1, "max_tokens": 8}
    whole = await client.chat.completions.create(messages=ASKED, **fields)  # pyright: ignore
    stream = await client.chat.completions.create(messages=ASKED, stream=True, **fields)  # pyright: ignore
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert whole.usage.completion_tokens <= 8
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model=model, messages=LONG)
    assert refused.value.code == "context_length_exceeded"


async def check_options(address: str, model: str = SUPPORT) -> None:
    """Check sampling options, several choices, log probabilities and a begun reply."""
    client = client_of(address)

    async def ask(**fields: Any) -> Any:
        asked = {"model": model, "messages": ASKED, "seed": 1, "max_tokens": 8, **fields}
        return await client.chat.completions.create(**asked)

    plain = await ask()
    several = await ask(n=3)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert several.choices[0].message.content == plain.choices[0].message.content
    assert len({choice.message.content for choice in several.choices}) > 1
    assert several.usage.prompt_tokens == plain.usage.prompt_tokens
    stream = await ask(n=3, stream=True, stream_options={"include_usage": True})
    texts = ["", "", ""]
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
        usage = chunk.usage
    assert texts == [choice.message.content for choice in several.choices]
    assert usage.completion_tokens == several.usage.completion_tokens

    greedy = {"temperature": 0, "logprobs": True, "top_logprobs": 2}
    likely = (await ask(**greedy)).choices[0]
    for token in likely.logprobs.content:
        assert token.top_logprobs[0].token == token.token and len(token.top_logprobs) == 2
        assert token.logprob <= 0
        # The small model writes parts of characters, whose bytes are unknown.
        assert token.bytes == (None if "\ufffd" in token.token else list(token.token.encode()))
    assert likely.message.content.startswith("".join(token.token for token in likely.logprobs.content))
    streamed = [chunk async for chunk in await ask(stream=True, **greedy)]
    tokens = [t for c in streamed for choice in c.choices if choice.logprobs for t in choice.logprobs.content]
    assert [token.token for token in tokens] == [token.token for token in likely.logprobs.content]

    for limit in ({"top_k": 1}, {"min_p": 1.0}):
        only = (await ask(extra_body=limit)).choices[0].message.content
        assert only == likely.message.content
    penalties = {"presence_penalty": 2, "frequency_penalty": 2, "extra_body": {"repetition_penalty": 2}}
    assert (await ask(temperature=0, max_tokens=32, **penalties)).choices[0].finish_reason in (
        "stop",
        "length",
    )

    begun = await ask(messages=[*ASKED, {"role": "assistant", "content": "That sounds"}])
    assert begun.usage.prompt_tokens > plain.usage.prompt_tokens - 4
    assert (await ask(extra_body={"chat_template_kwargs": {"enable_thinking": False}})).choices


async def check_models(address: str, model: str = SUPPORT) -> None:
    """Check GET /v1/models and /v1/models/{id}."""
    client = client_of(address)
    assert [served.id for served in (await client.models.list()).data] == [model]
    assert (await client.models.retrieve(model)).object == "model"
    for name in ("gpt-9", "org/gpt-9", "a b?"):
        with pytest.raises(openai.NotFoundError) as refused:
            await client.models.retrieve(name)
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


async def check_json_replies(address: str, model: str = SUPPORT) -> None:
    """Check response_format, in an engine that can enforce it."""
    client = client_of(address)
    formats: list[Any] = [
        {"type": "json_schema", "json_schema": {"name": "mood", "schema": MOOD, "strict": True}},
        {"type": "json_object"},
    ]
    # A small model may write white space until its limit, so that some replies are cut.
    asked: dict[str, Any] = {"model": model, "messages": ASKED, "seed": 1, "max_tokens": 120, "n": 8}
    whole = await client.chat.completions.create(response_format=formats[0], **asked)
    complete = [choice.message.content for choice in whole.choices if choice.finish_reason == "stop"]
    assert complete
    assert all(json.loads(text or "")["mood"] in ("sad", "calm") for text in complete)
    stream = await client.chat.completions.create(response_format=formats[0], stream=True, **asked)
    texts = [""] * 8
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]
    free = await client.chat.completions.create(response_format=formats[1], **asked)
    assert all((choice.message.content or "").lstrip().startswith("{") for choice in free.choices)


async def check_refused_json_replies(address: str, backend: str, model: str = SUPPORT) -> None:
    """Check that an engine without structured output refuses them by name."""
    with pytest.raises(openai.BadRequestError) as refused:
        await client_of(address).chat.completions.create(
            model=model, messages=ASKED, response_format={"type": "json_object"}
        )
    assert refused.value.param == "response_format"
    assert backend in str(refused.value)


async def check_refused_tools(address: str, model: str = SUPPORT) -> None:
    """Check that a model without tools in its template refuses them by name."""
    client = client_of(address)
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model=model, messages=ASKED, tools=TOOLS)
    assert refused.value.param == "tools" and model in str(refused.value)
    result: Any = {"role": "tool", "tool_call_id": "a", "content": "42"}
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model=model, messages=[*ASKED, result])
    assert refused.value.param == "messages[1]"


async def check_responses(address: str, model: str = SUPPORT) -> None:
    """Check /v1/responses: whole, as events, with log probabilities."""
    client = client_of(address)
    fields: dict[str, Any] = {"model": model, "input": "I lost my job.", "max_output_tokens": 16}
    fields["temperature"] = 0
    whole = await client.responses.create(**fields)
    assert whole.status in ("completed", "incomplete")
    stream = await client.responses.create(stream=True, **fields)
    events: list[Any] = [event async for event in stream]
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert events[-1].response.output_text == whole.output_text
    detailed = await client.responses.create(
        include=["message.output_text.logprobs"], top_logprobs=1, **fields
    )
    assert detailed.output[-1].content[0].logprobs  # pyright: ignore
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(previous_response_id=whole.id, **fields)
    assert refused.value.param == "previous_response_id"
