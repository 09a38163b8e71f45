"""No turn of a session is lost, the help line stays the operator's, and a judge's error stays inside."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from mica_ray.chat.model import ChatError
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.safety.check import HelpLines
from mica_ray.safety.rules import CareRules, RuleCare
from mica_ray.serving.http.backend import BackendError
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.support.need_estimator import NeedEstimator
from mica_ray.serving.support.session import FileStore, MemoryStore, SessionStore, SupportSession, SupportTurn
from mica_ray.serving.web_app import create_app
from mica_ray.types import Judgement, Scenario, State, Status
from tests.serving.local_service import served
from tests.serving.scripted_backend import ScriptedBackend

PATH = "/v1/support/sessions"
HELP = HelpLines().text("en", "self_harm")
CARE = RuleCare(CareRules.read(), HelpLines())
KEY = "sk-not-for-clients-8Q1"


@dataclass
class Judge:
    """Records what it judges; raises or returns what it is given."""

    outcome: Judgement | Exception | float = field(
        default_factory=lambda: Judgement(progress=(1, 0, 0), regress=(0, 0, 0), delta=(1.0, 0.0, 0.0))
    )
    dialogues: list[list[SpokenTurn]] = field(default_factory=list[list[SpokenTurn]])

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        self.dialogues.append(list(dialogue))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if not isinstance(self.outcome, Judgement):
            await asyncio.sleep(self.outcome)
            raise AssertionError("the deadline has passed")
        return self.outcome


def estimator(judge: Judge) -> NeedEstimator:
    return NeedEstimator(judge, EMOTIONAL_SUPPORT, deadline_seconds=0.2)


async def opened(client: httpx.AsyncClient) -> str:
    return f"{PATH}/{(await client.post(PATH, json={})).json()['id']}"


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_a_body_that_arrives_late_loses_no_turn(kind: str, tmp_path: Path) -> None:
    file = None if kind == "memory" else tmp_path / "sessions.db"
    app = create_app(ScriptedBackend(), ServeSettings(sessions=True, sessions_file=file))
    may_end = asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        yield b'{"content": '
        await may_end.wait()
        yield b'"slow"}'

    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        place = await opened(client)
        late = asyncio.create_task(
            client.post(
                f"{place}/messages", content=slow_body(), headers={"content-type": "application/json"}
            )
        )
        await asyncio.sleep(0.1)
        for text in ("one", "two"):
            assert (await client.post(f"{place}/messages", json={"content": text})).status_code == 200
        may_end.set()
        assert (await late).json()["turn"] == 3
        said = [message["content"] for message in (await client.get(place)).json()["messages"]]
    assert said[::2] == ["one", "two", "slow"]


async def test_twenty_messages_at_once_are_each_kept_or_refused() -> None:
    app = create_app(ScriptedBackend(pause_seconds=0.01), ServeSettings(sessions=True))
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        place = await opened(client)
        answers = await asyncio.gather(
            *(client.post(f"{place}/messages", json={"content": str(i)}) for i in range(20))
        )
        kept = {str(i) for i, answer in enumerate(answers) if answer.status_code == 200}
        assert {answer.status_code for answer in answers} <= {200, 409}
        messages = (await client.get(place)).json()["messages"]
    assert kept and {message["content"] for message in messages[::2]} == kept


async def test_a_session_that_expires_during_its_reply_keeps_the_turn() -> None:
    settings = ServeSettings(sessions=True, session_seconds=0.5)
    backend = ScriptedBackend(pause_seconds=0.4)
    async with (
        served(create_app(backend, settings)) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        place = await opened(client)
        answer = await client.post(f"{place}/messages", json={"content": "hello"})
        assert answer.json()["turn"] == 1
        assert len((await client.get(place)).json()["messages"]) == 2


def session(session_id: str = "a", expires: float = 1e12) -> SupportSession:
    return SupportSession(session_id, "owner", "support", "en", 0.0, expires)


def stores(tmp_path: Path, kind: str, max_sessions: int = 5) -> SessionStore:
    return MemoryStore(max_sessions) if kind == "memory" else FileStore(tmp_path / "s.db", max_sessions)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_store_changes_the_latest_form_of_a_session(tmp_path: Path, kind: str) -> None:
    store = stores(tmp_path, kind)
    assert store.put(session())
    for text in ("one", "two"):
        store.update(
            "a", lambda found, text=text: replace(found, turns=(*found.turns, SupportTurn(text, "x")))
        )
    found = store.get("a")
    assert found is not None and [turn.said for turn in found.turns] == ["one", "two"]
    store.delete("a")
    assert store.update("a", lambda found: found) is None
    assert store.get("a") is None


def test_two_processes_with_one_file_lose_no_turn(tmp_path: Path) -> None:
    FileStore(tmp_path / "s.db", 5).put(session())

    def add(name: str) -> None:
        store = FileStore(tmp_path / "s.db", 5)
        for i in range(20):
            turn = SupportTurn(f"{name}-{i}", "x")

            def append(found: SupportSession, turn: SupportTurn = turn) -> SupportSession:
                time.sleep(0.001)
                return replace(found, turns=(*found.turns, turn))

            store.update("a", append)
        store.close()

    threads = [threading.Thread(target=add, args=(name,)) for name in ("ada", "grace")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = FileStore(tmp_path / "s.db", 5).get("a")
    assert found is not None and len({turn.said for turn in found.turns}) == 40


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_full_store_still_keeps_the_turns_of_its_sessions(tmp_path: Path, kind: str) -> None:
    store = stores(tmp_path, kind, max_sessions=1)
    assert store.put(session()) and not store.put(session("b"))
    assert store.update("a", lambda found: replace(found, turns=(SupportTurn("one", "x"),))) is not None


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_store_has_a_limit_for_each_owner(tmp_path: Path, kind: str) -> None:
    store = stores(tmp_path, kind)
    assert [store.put(session(name), max_of_owner=2) for name in "abc"] == [True, True, False]
    assert store.put(replace(session("d"), owner="other"), max_of_owner=2)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_neither_model_nor_judge_sees_the_help_line(streams: bool) -> None:
    backend, judge = ScriptedBackend(), Judge()
    app = create_app(backend, ServeSettings(sessions=True), care=CARE, estimator=estimator(judge))
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        place = await opened(client)
        texts = ("I want to kill myself.", "Thank you.")
        answers = [
            await client.post(f"{place}/messages", json={"content": text, "stream": streams})
            for text in texts
        ]
        messages = (await client.get(place)).json()["messages"]
    assert json.dumps(HELP)[1:-1] in answers[0].text and HELP not in answers[1].text
    if not streams:
        assert answers[0].json()["reply"]["content"] == "That sounds heavy."
        assert [answer.json()["help_line"] for answer in answers] == [HELP, None]
    assert messages[1] == {"role": "assistant", "content": "That sounds heavy.", "help_line": HELP}
    assert [message["content"] for message in backend.requests[1].messages] == [
        texts[0],
        "That sounds heavy.",
        texts[1],
    ]
    assert judge.dialogues[1] == [{"user": text, "reply": "That sounds heavy."} for text in texts]


async def test_a_message_without_a_reply_belongs_to_the_next_turn() -> None:
    backend = ScriptedBackend(error=BackendError("down", kind="unavailable"))
    judge = Judge()
    app = create_app(backend, ServeSettings(sessions=True), care=CARE, estimator=estimator(judge))
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        place = await opened(client)
        first = (await client.post(f"{place}/messages", json={"content": "I want to die."})).json()
        backend.error = None
        await client.post(f"{place}/messages", json={"content": "Hello?"})
    assert (first["reply"]["content"], first["help_line"], first["care"]) == ("", HELP, "self_harm")
    assert "nothing to judge" in first["need"]["error"]
    assert [message["content"] for message in backend.requests[1].messages] == ["I want to die.\n\nHello?"]
    assert judge.dialogues == [[{"user": "I want to die.\n\nHello?", "reply": "That sounds heavy."}]]


OUTCOMES: list[Any] = [
    Judgement.failed(Status.ABANDONED, f"https://judge.internal/v1 refused {KEY}"),
    Judgement.failed(Status.INVALID, f"not JSON: {KEY}"),
    ChatError(
        f"Illegal header value b'Bearer {KEY}'", kind="infrastructure", endpoint="https://judge.internal"
    ),
    RuntimeError(KEY),
    UnicodeEncodeError("ascii", KEY, 0, 1, KEY),
    30.0,
]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
async def test_an_error_of_the_judge_reaches_neither_client_nor_file_nor_log(
    outcome: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def failures() -> float:
        statuses = [str(status) for status in Status]
        found = [REGISTRY.get_sample_value("mica_judge_failures_total", {"reason": s}) for s in statuses]
        return sum(value or 0.0 for value in found)

    before, file = failures(), tmp_path / "sessions.db"
    settings = ServeSettings(sessions=True, sessions_file=file)
    app = create_app(ScriptedBackend(), settings, estimator=estimator(Judge(outcome)))
    with caplog.at_level(logging.DEBUG, logger="mica_ray"):
        async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
            place = await opened(client)
            answer = await client.post(f"{place}/messages", json={"content": "hello"})
            shown = await client.get(place)
    assert answer.json()["need"]["error"] in (
        "The judge returned no score.",
        "The judge did not answer in time.",
    )
    seen = answer.text + shown.text + caplog.text + file.read_bytes().decode("latin-1")
    assert KEY not in seen and "judge.internal" not in seen
    assert "The judge returned no score for a reply" in caplog.text
    assert failures() == before + 1
