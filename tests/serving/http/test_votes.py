"""Votes on two models, and the metrics: which requests are rejected, and what is stored."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from mica_ray.serving.http.api_keys import KeyFile, KeyTerms
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.operations.recent_replies import RecentReplies
from mica_ray.serving.web_app import create_app
from mica_ray.types import Message
from tests.serving.scripted_backend import ScriptedBackend

GOOD = {"left": "base", "right": "trained", "choice": "tie"}


def client(settings: ServeSettings) -> httpx.AsyncClient:
    app = create_app(ScriptedBackend(names=("trained", "base")), settings)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def ask(asked: httpx.AsyncClient, model: str, text: str = "hello", **headers: str) -> None:
    said = {"model": model, "messages": [{"role": "user", "content": text}]}
    assert (await asked.post("/v1/chat/completions", json=said, headers=headers)).status_code == 200


async def test_a_vote_is_kept_without_any_text(tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    async with client(ServeSettings(votes_file=votes)) as asked:
        await ask(asked, "trained")
        await ask(asked, "base")
        sent = GOOD | {"text": "what was said"}
        assert (await asked.post("/v1/support/votes", json=sent)).status_code == 201
    (vote,) = [json.loads(line) for line in votes.read_text().splitlines()]
    assert {name: vote[name] for name in GOOD} == GOOD
    assert set(vote) == {*GOOD, "time"}


async def test_a_vote_needs_a_conversation_that_both_models_answered(tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    async with client(ServeSettings(votes_file=votes)) as asked:

        async def vote() -> int:
            return (await asked.post("/v1/support/votes", json=GOOD)).status_code

        assert await vote() == 409  # Nobody has said anything.
        await ask(asked, "trained")
        assert await vote() == 409  # One model has not answered.
        await ask(asked, "base", "another text")
        assert await vote() == 409  # The models answered different conversations.
        await ask(asked, "base")
        assert await vote() == 201
        assert await vote() == 409  # Each conversation has one vote.
        # Two conversations that both answered have two.
        for text in ("hello", "goodbye"):
            await ask(asked, "trained", text)
            await ask(asked, "base", text)
        assert [await vote() for _ in range(3)] == [201, 201, 409]
    assert len(votes.read_text().splitlines()) == 3


async def test_a_key_votes_only_on_its_own_conversations(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    mine, theirs = (f"Bearer {keys.add(name)}" for name in ("mine", "theirs"))
    settings = ServeSettings(keys_file=keys.path, votes_file=tmp_path / "votes.jsonl")
    async with client(settings) as asked:
        for model in ("trained", "base"):
            await ask(asked, model, authorization=mine)
        for key, status in ((theirs, 409), (mine, 201)):
            answer = await asked.post("/v1/support/votes", json=GOOD, headers={"authorization": key})
            assert answer.status_code == status


def test_a_conversation_is_forgotten_after_an_hour() -> None:
    now = [0.0]
    replies = RecentReplies(clock=lambda: now[0])
    said: list[Message] = [{"role": "user", "content": "hello"}]
    for model in ("a", "b"):
        replies.add("me", said, model)
    now[0] = 3601.0
    assert not replies.take("me", {"a", "b"})
    for model in ("a", "b"):
        replies.add("me", said, model)
    now[0] = 3601.0 + 3600.0
    assert replies.take("me", {"a", "b"})


@pytest.mark.parametrize(("num_others", "is_kept"), [(999, True), (1000, False)])
def test_a_key_displaces_its_own_conversations_and_never_those_of_another(
    num_others: int, is_kept: bool
) -> None:
    replies, said = RecentReplies(), [Message(role="user", content="hello")]
    for owner in ("busy", "calm"):
        for model in ("a", "b"):
            replies.add(owner, said, model)
    for index in range(num_others):
        replies.add("busy", [Message(role="user", content=str(index))], "a")
    assert replies.take("busy", {"a", "b"}) == is_kept
    assert replies.take("calm", {"a", "b"})


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"left": "gpt-9"}, 404, "left"),
        ({"left": "trained"}, 400, "right"),
        ({"choice": "both"}, 400, "choice"),
    ],
)
async def test_an_invalid_vote_is_rejected(
    tmp_path: Path, change: dict[str, str], status: int, param: str
) -> None:
    votes = tmp_path / "votes.jsonl"
    async with client(ServeSettings(votes_file=votes)) as asked:
        answer = await asked.post("/v1/support/votes", json=GOOD | change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert votes.read_text() == ""


async def test_a_service_without_a_file_keeps_no_votes() -> None:
    async with client(ServeSettings()) as asked:
        assert (await asked.post("/v1/support/votes", json=GOOD)).json()["error"]["code"] == "votes_off"


async def test_votes_and_metrics_need_the_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    good = {"Authorization": f"Bearer {KeyFile(keys).add('prometheus', KeyTerms(scopes=('metrics',)))}"}
    async with client(ServeSettings(keys_file=keys, votes_file=tmp_path / "votes.jsonl")) as asked:
        assert (await asked.post("/v1/support/votes", json=GOOD)).status_code == 401
        assert (await asked.get("/metrics")).status_code == 401
        shown = await asked.get("/metrics", headers=good)
    assert shown.status_code == 200
    assert "process_cpu_seconds_total" in shown.text
