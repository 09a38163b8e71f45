"""The contract of an endpoint, on servers that imitate the providers."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from mica_ray.chat.ledger import Ledger, MeteredChat, Price
from mica_ray.chat.model import ChatError, ChatReply
from mica_ray.chat.openai_api import Endpoint, OpenAIChat
from mica_ray.config.overrides import build_dataclass
from mica_ray.types import Message, Sampling
from tests.chat.providers import (
    BUSY,
    CUT,
    FILTERED,
    KEY,
    LOCKED,
    PROVIDERS,
    THINKING,
    FastApi,
    Ollama,
    Provider,
)

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
SAMPLING = Sampling(temperature=0.3, top_p=0.9, max_tokens=50, seed=4, stop=("END",))
QUICK = {"timeout_seconds": 5, "deadline_seconds": 20, "attempts": 3, "first_pause_seconds": 0.001}


@pytest.fixture(params=PROVIDERS, ids=lambda provider: provider.name)
async def provider(request: pytest.FixtureRequest) -> AsyncIterator[Provider]:
    async with request.param as server:
        yield server


def endpoint(provider: Provider, shaping: str | None = None) -> Endpoint:
    fields = json.loads(provider.shaping if shaping is None else shaping)
    built = build_dataclass(Endpoint, {"model": "judge", "base_url": provider.url, **QUICK, **fields})
    assert isinstance(built, Endpoint)
    return built


async def ask(at: Endpoint, wish: str = "", key: str = KEY) -> ChatReply:
    messages: list[Message] = [{"role": "user", "content": f"Answer. {wish}"}]
    chat = OpenAIChat(at, key)
    try:
        return await chat.chat(messages, SAMPLING, SCHEMA)
    finally:
        await chat.close()


async def failure(at: Endpoint, wish: str = "", key: str = KEY) -> ChatError:
    with pytest.raises(ChatError) as caught:
        await ask(at, wish, key)
    assert "\n" not in str(caught.value)
    return caught.value


async def test_request_in_the_endpoint_s_shape_is_answered(provider: Provider) -> None:
    reply = await ask(endpoint(provider))
    assert (reply.text, reply.attempts) == ('{"a": "yes"}', 1)
    assert (reply.prompt_tokens, reply.completion_tokens) == provider.counts
    assert reply.finish_reason == (None if isinstance(provider, FastApi) else "stop")


async def test_answer_at_the_token_limit_is_returned_with_its_reason(provider: Provider) -> None:
    reply = await ask(endpoint(provider), CUT)
    assert (reply.text, reply.finish_reason) == ("Half a sent", "length")


async def test_filtered_answer_is_an_unusable_one_and_is_asked_once(provider: Provider) -> None:
    error = await failure(endpoint(provider), FILTERED)
    assert (error.kind, len(provider.server.requests)) == ("content", 1)
    assert re.search("filter|refused", str(error))


async def test_answer_of_thoughts_only_names_the_remedy(provider: Provider) -> None:
    error = await failure(endpoint(provider), THINKING)
    assert error.kind == "content"
    assert "Raise max_tokens" in str(error) and "declined" not in str(error)
    assert (error.prompt_tokens, error.completion_tokens) in (provider.counts, (7, 3))


async def test_busy_server_is_asked_again_after_the_wait_it_names(provider: Provider) -> None:
    reply = await ask(endpoint(provider), BUSY)
    assert (reply.text, reply.attempts) == ("free again", 2)
    assert reply.seconds >= (0 if provider.name in ("ollama", "llama.cpp", "vllm") else provider.wait)


async def test_server_that_stays_busy_is_an_infrastructure_failure_in_its_own_words(
    provider: Provider,
) -> None:
    error = await failure(replace(endpoint(provider), attempts=1), BUSY)
    assert error.kind == "infrastructure"
    assert provider.busy in str(error)


async def test_wrong_key_is_refused_once_and_not_shown(provider: Provider) -> None:
    wrong = "wrong-key-9876543210-zyxwvu"
    error = await failure(endpoint(provider), LOCKED, key=wrong)
    assert (error.kind, len(provider.server.requests)) == ("refused", 1)
    assert provider.locked in str(error)
    for part in (wrong, wrong[:8], wrong[-8:], wrong[:5]):
        assert part not in str(error)


async def test_remedy_of_a_rejected_field_leads_to_an_answer(provider: Provider) -> None:
    at = endpoint(provider, '{"api_key_header": "api-key"}' if provider.name == "azure" else "{}")
    for _ in range(6):
        try:
            reply = await ask(at)
            break
        except ChatError as error:
            assert error.kind == "refused"
            found = re.search(r"Set (\w+)=(.+?) for this endpoint", str(error))
            assert found, error
            value: Any = json.loads(found[2])
            at = replace(at, **{found[1]: tuple(value) if isinstance(value, list) else value})
    else:
        pytest.fail(f"no answer with {at}")
    assert reply.text == '{"a": "yes"}'


async def test_tokens_of_unusable_answers_are_booked() -> None:
    ledger = Ledger()
    async with Ollama() as provider:
        chat = OpenAIChat(endpoint(provider, "{}"), KEY)
        metered = MeteredChat(chat, ledger, "judge", Price(prompt=1e6, completion=1e6))
        with pytest.raises(ChatError):
            await metered.chat([{"role": "user", "content": THINKING}], SAMPLING)
    spent = ledger.totals()["judge"]
    assert (spent.prompt_tokens, spent.completion_tokens, spent.usd) == (7, 3, 10.0)
