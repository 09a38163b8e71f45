from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.serving.http.api_keys import KeyFile
from mica_ray.serving.http.backend import BackendError
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.support.need_estimator import NeedEstimator, distance_left, next_state
from mica_ray.serving.support.session import FileStore, MemoryStore, SupportSession, SupportTurn
from mica_ray.serving.web_app import create_app
from mica_ray.types import Judgement, Scenario, State, Status
from tests.serving.local_service import served
from tests.serving.scripted_backend import ScriptedBackend

PATH = "/v1/support/sessions"
SECRET = "nobody-may-read-this-7Q0"


@dataclass
class ScriptedJudge:
    """Returns the changes in order; None raises an error, a number hangs for that many seconds."""

    changes: list[State | float | None]
    states: list[State] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        self.states.append(state)
        self.lengths.append(len(dialogue))
        change = self.changes.pop(0)
        if change is None:
            raise RuntimeError(f"cannot score {dialogue[-1]['user']}")
        if not isinstance(change, tuple):
            await asyncio.sleep(change)
            return Judgement.failed(Status.INVALID, "too late to matter")
        return Judgement(progress=(0, 0, 0), regress=(0, 0, 0), delta=change)


def estimate(*changes: State | float | None) -> NeedEstimator:
    return NeedEstimator(ScriptedJudge(list(changes)), EMOTIONAL_SUPPORT, deadline_seconds=0.2)


async def test_a_session_keeps_the_dialogue_and_the_judged_path() -> None:
    estimator = estimate((3.0, 0.0, 1.0), (0.0, 3.0, 0.0))
    start = estimator.start
    after_one = (start[0] + 3, start[1], start[2] + 1)
    after_two = (after_one[0], after_one[1] + 3, after_one[2])
    backend = ScriptedBackend()
    app = create_app(backend, ServeSettings(sessions=True), estimator=estimator)
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        opened = await client.post(PATH, json={})
        assert opened.status_code == 201
        place = f"{PATH}/{opened.json()['id']}"
        assert opened.json()["need"]["path"] == [] and opened.json()["need"]["state"] is None
        first = (await client.post(f"{place}/messages", json={"content": "I lost my job."})).json()
        second = (await client.post(f"{place}/messages", json={"content": "I am scared."})).json()
        whole = (await client.get(place)).json()
    assert first["reply"]["content"] == "That sounds heavy."
    assert tuple(first["need"]["state"].values()) == after_one
    assert first["need"]["change"] == {"C": 3.0, "A": 0.0, "P": 1.0}
    assert tuple(second["need"]["state"].values()) == after_two
    assert [tuple(state.values()) for state in whole["need"]["path"]] == [after_one, after_two]
    assert whole["need"]["distances"] == [distance_left(after_one), distance_left(after_two)]
    # Success, collapse and stall are looked for from the twelfth turn on.
    assert whole["need"]["progress"] == "open"
    texts = ["I lost my job.", "That sounds heavy.", "I am scared.", "That sounds heavy."]
    assert [message["content"] for message in whole["messages"]] == texts
    # The model gets the whole dialogue.
    assert [message["content"] for message in backend.requests[1].messages] == texts[:3]


@pytest.mark.parametrize("failure", [None, 30.0], ids=["fails", "hangs"])
async def test_a_failed_judge_gives_null_and_the_path_continues(failure: float | None) -> None:
    estimator = estimate((1.0, 0.0, 0.0), failure, (1.0, 0.0, 0.0))
    c, a, p = estimator.start
    app = create_app(ScriptedBackend(), ServeSettings(sessions=True), estimator=estimator)
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        place = f"{PATH}/{(await client.post(PATH, json={})).json()['id']}"
        needs = [
            (await client.post(f"{place}/messages", json={"content": SECRET})).json()["need"]
            for _ in range(3)
        ]
    failed = needs[1]
    assert failed["state"] is failed["change"] is failed["distance"] is None
    assert failed["error"] and SECRET not in failed["error"]
    assert failed["path"][1] is failed["distances"][1] is None
    # The third turn continues from the state of the first: c + 1 + 1.
    assert tuple(needs[2]["state"].values()) == (c + 2, a, p)
    assert isinstance(estimator.judge, ScriptedJudge)
    assert estimator.judge.states == [(c, a, p), (c + 1, a, p), (c + 1, a, p)]
    assert estimator.judge.lengths == [1, 2, 3]


async def test_a_streamed_message_ends_with_the_state() -> None:
    app = create_app(ScriptedBackend(), ServeSettings(sessions=True), estimator=estimate((1.0, 0.0, 0.0)))
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        place = f"{PATH}/{(await client.post(PATH, json={})).json()['id']}"
        answer = await client.post(f"{place}/messages", json={"content": "hello", "stream": True})
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events.pop() == "[DONE]"
    *pieces, last = [json.loads(event) for event in events]
    assert "".join(piece["content"] for piece in pieces) == "That sounds heavy."
    assert last["object"] == "support.message" and last["turn"] == 1
    assert last["need"]["change"] == {"C": 1.0, "A": 0.0, "P": 0.0}


async def test_sessions_are_off_unless_turned_on() -> None:
    async with (
        served(create_app(ScriptedBackend(), ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        assert (await client.post(PATH, json={})).status_code == 404
        offer = (await client.get("/v1/support")).json()
    assert (offer["sessions"], offer["estimates"]) == (False, False)


async def test_another_key_never_sees_a_session(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    mine, theirs = ({"Authorization": f"Bearer {keys.add(name)}"} for name in ("mine", "theirs"))
    app = create_app(ScriptedBackend(), ServeSettings(sessions=True, keys_file=keys.path))
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        place = f"{PATH}/{(await client.post(PATH, json={}, headers=mine)).json()['id']}"
        await client.post(f"{place}/messages", json={"content": SECRET}, headers=mine)
        said = {"content": "hello"}
        refused = [
            await client.get(place, headers=theirs),
            await client.delete(place, headers=theirs),
            await client.post(f"{place}/messages", json=said, headers=theirs),
        ]
        assert [answer.status_code for answer in refused] == [404, 404, 404]
        assert not any(SECRET in answer.text for answer in refused)
        assert (await client.get(place, headers=mine)).status_code == 200
        assert (await client.delete(place, headers=mine)).json()["deleted"]
        assert (await client.get(place, headers=mine)).status_code == 404


async def test_two_messages_at_once_do_not_cross() -> None:
    gate = asyncio.Event()
    app = create_app(ScriptedBackend(gate=gate), ServeSettings(sessions=True))
    async with served(app) as address, httpx.AsyncClient(base_url=address) as client:
        place = f"{PATH}/{(await client.post(PATH, json={})).json()['id']}"
        both = [
            asyncio.create_task(client.post(f"{place}/messages", json={"content": text}))
            for text in ("one", "two")
        ]
        done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        gate.set()
        answers = await asyncio.gather(*both)
        assert [task.result().status_code for task in done] == [409]
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        assert len((await client.get(place)).json()["messages"]) == 2


def kept(session_id: str, expires: float) -> SupportSession:
    turn = SupportTurn(SECRET, "reply", (-1.0, 0.0, 2.0), (1.0, 0.0, 0.0))
    return SupportSession(session_id, "owner", "support", "en", 0.0, expires, (turn,))


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_store_deletes_expired_sessions_and_has_a_limit(kind: str, tmp_path: Path) -> None:
    now = [0.0]
    path = tmp_path / "sessions.db"

    def clock() -> float:
        return now[0]

    store = MemoryStore(2, clock=clock) if kind == "memory" else FileStore(path, 2, clock=clock)
    assert store.put(kept("a", 10)) and store.put(kept("b", 20))
    assert not store.put(kept("c", 20))
    assert store.get("a") == kept("a", 10)
    now[0] = 10.0
    store.delete_expired()
    assert store.get("a") is None
    assert store.get("b") == kept("b", 20)
    assert store.put(kept("c", 20))
    store.delete("b")
    store.delete("c")
    assert store.get("b") is store.get("c") is None
    if isinstance(store, FileStore):
        store.close()
        assert SECRET.encode() not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0


def test_a_session_file_survives_a_restart(tmp_path: Path) -> None:
    first = FileStore(tmp_path / "sessions.db", 2, clock=lambda: 0.0)
    first.put(kept("a", 10))
    first.close()
    second = FileStore(tmp_path / "sessions.db", 2, clock=lambda: 5.0)
    assert second.get("a") == kept("a", 10)
    second.close()


def test_a_state_moves_only_with_a_score() -> None:
    # (-3, -2, -1) + (1, 0, 3) = (-2, -2, 2)
    judged = Judgement(progress=(1, 0, 2), regress=(0, 0, 0), delta=(1.0, 0.0, 3.0))
    assert next_state((-3.0, -2.0, -1.0), judged) == (-2.0, -2.0, 2.0)
    assert next_state((-3.0, -2.0, -1.0), Judgement.failed(Status.INVALID, "no")) == (-3.0, -2.0, -1.0)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_session_that_is_too_long_for_the_model_names_its_own_field(stream: bool) -> None:
    backend = ScriptedBackend(error=BackendError("Leave out the oldest messages.", kind="too_long"))
    app = create_app(backend, ServeSettings(sessions=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        session = (await client.post(PATH, json={})).json()["id"]
        answer = await client.post(f"{PATH}/{session}/messages", json={"content": "hi", "stream": stream})
        kept = (await client.get(f"{PATH}/{session}")).json()["messages"]
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "content", "context_length_exceeded")
    assert "Open a new one" in error["message"]
    assert kept == []
