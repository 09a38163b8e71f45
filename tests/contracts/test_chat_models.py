"""Contract of the ChatModel protocol: the same calls on every implementation. Add new ones to MODELS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mica_ray.chat.model import ChatModel, JsonSchema
from mica_ray.chat.openai_api import Endpoint, OpenAIChat
from mica_ray.chat.recorded import RecordingChat, ReplayChat
from mica_ray.dialogue.director import Move, Plot, direction_schema, read_direction
from mica_ray.dialogue.judger import judgement_schema, read_judgement
from mica_ray.dialogue.role_messages import SpokenTurn, actor_messages, director_messages, judge_messages
from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.types import Message, Sampling
from tests.chat.local_endpoint import Answer, LocalEndpoint, Request
from tests.dialogue.tiny_domain import DOMAIN as TINY
from tests.dialogue.tiny_domain import SCENARIO

DOMAIN = replace(TINY, shows_needs=True)  # As the domains of the embedded world.

DIALOGUE: list[SpokenTurn] = [
    {"user": SCENARIO.opening, "reply": "That sounds hard. What hurts most about the move?"}
]
STATE = SCENARIO.initial_state
SEEDS = (1, 2)


@dataclass(frozen=True)
class Call:
    """One call of a role, as a dialogue makes it."""

    messages: list[Message]
    schema: JsonSchema | None


CALLS = {
    "judge": Call(
        list(judge_messages(DOMAIN, SCENARIO, state=STATE, dialogue=DIALOGUE)),
        judgement_schema(),
    ),
    "director": Call(
        list(
            director_messages(
                DOMAIN,
                SCENARIO,
                state=STATE,
                dialogue=DIALOGUE,
                energy=[1.0],
                revealed=SCENARIO.stages[:1],
                upcoming=dict(enumerate(SCENARIO.stages[1:], 2)),
            )
        ),
        direction_schema(Plot(SCENARIO.stages, (1,))),
    ),
    "actor": Call(
        list(
            actor_messages(
                DOMAIN,
                SCENARIO,
                state=STATE,
                dialogue=DIALOGUE,
                revealed=(),
                guidance=None,
                fragment=SCENARIO.stages[0],
            )
        ),
        None,
    ),
}


@asynccontextmanager
async def scripted(_: Path) -> AsyncIterator[ChatModel]:
    yield ScriptedRoles()


@asynccontextmanager
async def over_http(_: Path) -> AsyncIterator[ChatModel]:
    async def respond(request: Request) -> Answer:
        return Answer((await ScriptedRoles().chat(request["messages"], Sampling(seed=request["seed"]))).text)

    async with LocalEndpoint(respond=respond) as server:
        chat = OpenAIChat(
            Endpoint("tiny", base_url=server.url, max_concurrency=4, deadline_seconds=30), "key"
        )
        yield chat
        await chat.close()


@asynccontextmanager
async def recording(directory: Path) -> AsyncIterator[ChatModel]:
    yield RecordingChat(ScriptedRoles(), directory / "calls.jsonl")


@asynccontextmanager
async def replay(directory: Path) -> AsyncIterator[ChatModel]:
    recorder = RecordingChat(ScriptedRoles(), directory / "calls.jsonl")
    for call in CALLS.values():
        for seed in SEEDS * 8:  # More often than any test below asks.
            await recorder.chat(call.messages, Sampling(seed=seed), call.schema)
    yield ReplayChat(directory / "calls.jsonl")


MODELS: dict[str, Callable[[Path], AbstractAsyncContextManager[ChatModel]]] = {
    "scripted": scripted,
    "openai_api": over_http,
    "recording": recording,
    "replay": replay,
}


@pytest.fixture(params=MODELS)
async def model(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ChatModel]:
    async with MODELS[request.param](tmp_path) as chat:
        yield chat


@pytest.mark.parametrize("role", CALLS)
async def test_reply_has_text_and_says_what_it_cost(model: ChatModel, role: str) -> None:
    reply = await model.chat(CALLS[role].messages, Sampling(seed=1), CALLS[role].schema)
    assert reply.text.strip()
    assert reply.model
    assert reply.attempts >= 1
    assert min(reply.seconds, reply.prompt_tokens, reply.completion_tokens) >= 0


@pytest.mark.parametrize("role", CALLS)
async def test_equal_seeds_give_equal_texts(model: ChatModel, role: str) -> None:
    call = CALLS[role]
    replies = [await model.chat(call.messages, Sampling(seed=2), call.schema) for _ in range(2)]
    assert replies[0].text == replies[1].text


@pytest.mark.parametrize("role", ["judge", "director"])
async def test_answer_to_a_schema_is_understood_by_the_role_that_asked(model: ChatModel, role: str) -> None:
    call = CALLS[role]
    reply = await model.chat(call.messages, Sampling(seed=1), call.schema)
    assert call.schema is not None
    if role == "judge":
        assert read_judgement(reply.text, DOMAIN).is_valid
    else:
        assert read_direction(reply.text, Plot(SCENARIO.stages, (1,))).move is Move.REVEAL_STAGE


async def test_conversation_and_schema_are_left_as_they_were(model: ChatModel) -> None:
    call = CALLS["judge"]
    before = deepcopy(call)
    await model.chat(call.messages, Sampling(seed=1), call.schema)
    assert call == before


async def test_calls_at_once_get_the_answers_they_get_alone(model: ChatModel) -> None:
    calls = [(call, seed) for call in CALLS.values() for seed in SEEDS]
    alone = [await model.chat(call.messages, Sampling(seed=seed), call.schema) for call, seed in calls]
    together = await asyncio.gather(
        *(model.chat(call.messages, Sampling(seed=seed), call.schema) for call, seed in calls)
    )
    assert [reply.text for reply in together] == [reply.text for reply in alone]
