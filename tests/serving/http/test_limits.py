"""The limits of each key: scopes, requests in flight, sessions, tokens of a day."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from mica_ray.serving.http.api_keys import KeyFile, KeyScope, KeyTerms
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.http.token_budget import TokenBudget
from mica_ray.serving.web_app import create_app
from tests.serving.local_service import served
from tests.serving.scripted_backend import ScriptedBackend

ASK = "/v1/chat/completions"
SESSIONS = "/v1/support/sessions"
SAID = {"messages": [{"role": "user", "content": "hello"}]}
DAY = 86_400


def headers_of(keys: KeyFile, name: str, terms: KeyTerms | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {keys.add(name, terms or KeyTerms())}"}


@asynccontextmanager
async def running(settings: ServeSettings) -> AsyncIterator[httpx.AsyncClient]:
    """Run the application without a socket, from its start to its orderly end."""
    app = create_app(ScriptedBackend(), settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        yield client


async def until_waiting(backend: ScriptedBackend, num_requests: int) -> None:
    async with asyncio.timeout(10):
        while len(backend.requests) < num_requests:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_a_key_with_its_limit_in_flight_leaves_places_to_others(tmp_path: Path, streams: bool) -> None:
    keys, gate = KeyFile(tmp_path / "keys.json"), asyncio.Event()
    greedy, other = (headers_of(keys, name) for name in ("greedy", "other"))
    backend = ScriptedBackend(gate=gate)
    settings = ServeSettings(keys_file=keys.path, max_in_flight=4, max_in_flight_per_key=2)
    async with (
        served(create_app(backend, settings)) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        body = {**SAID, "stream": streams}
        busy = [asyncio.create_task(client.post(ASK, json=body, headers=greedy)) for _ in range(2)]
        await until_waiting(backend, 2)
        refused = await client.post(ASK, json=body, headers=greedy)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_in_flight")
        assert int(refused.headers["retry-after"]) >= 1
        allowed = asyncio.create_task(client.post(ASK, json=body, headers=other))
        await until_waiting(backend, 3)
        gate.set()
        assert [(await task).status_code for task in (*busy, allowed)] == [200] * 3
        # The places are free again.
        again = [await client.post(ASK, json=body, headers=greedy) for _ in range(3)]
        assert [answer.status_code for answer in again] == [200] * 3


async def test_a_client_that_hangs_up_frees_its_place(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    headers = headers_of(keys, "ada", KeyTerms(max_in_flight=1))
    backend = ScriptedBackend(words=("a ",) * 200, pause_seconds=0.05)
    async with (
        served(create_app(backend, ServeSettings(keys_file=keys.path))) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        async with client.stream("POST", ASK, json={**SAID, "stream": True}, headers=headers) as answer:
            await anext(answer.aiter_bytes())
            assert (await client.post(ASK, json=SAID, headers=headers)).status_code == 429
        async with asyncio.timeout(10):
            while backend.num_closed == 0:
                await asyncio.sleep(0.01)
        async with client.stream("POST", ASK, json={**SAID, "stream": True}, headers=headers) as answer:
            assert answer.status_code == 200


async def test_a_key_with_its_limit_of_sessions_leaves_room_to_others(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    greedy, other = headers_of(keys, "greedy"), headers_of(keys, "other", KeyTerms(max_sessions=3))
    settings = ServeSettings(keys_file=keys.path, sessions=True, max_sessions=5, max_sessions_per_key=2)
    async with (
        served(create_app(ScriptedBackend(), settings)) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):

        async def opened(headers: dict[str, str]) -> list[httpx.Response]:
            return [await client.post(SESSIONS, json={}, headers=headers) for _ in range(4)]

        mine, theirs = await opened(greedy), await opened(other)
        assert [answer.status_code for answer in mine] == [201, 201, 429, 429]
        assert [answer.status_code for answer in theirs] == [201, 201, 201, 429]
        assert mine[2].json()["error"]["code"] == "too_many_sessions"
        await client.delete(f"{SESSIONS}/{mine[0].json()['id']}", headers=greedy)
        assert (await client.post(SESSIONS, json={}, headers=greedy)).status_code == 201


async def test_a_key_is_refused_once_its_tokens_of_the_day_are_used(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    # A scripted reply has 7 + 3 tokens: 19 are used up by two, 20 too, 21 by three.
    limits = {"below": 19, "at": 20, "above": 21}
    headers = {name: headers_of(keys, name, KeyTerms(daily_tokens=limit)) for name, limit in limits.items()}
    default = headers_of(keys, "default")
    settings = ServeSettings(keys_file=keys.path, daily_tokens_per_key=10)
    async with running(settings) as client:
        found = {
            name: [(await client.post(ASK, json=SAID, headers=header)).status_code for _ in range(4)]
            for name, header in headers.items()
        }
        assert found == {
            "below": [200, 200, 429, 429],
            "at": [200, 200, 429, 429],
            "above": [200, 200, 200, 429],
        }
        assert (await client.post(ASK, json=SAID, headers=default)).status_code == 200
        refused = await client.post(ASK, json=SAID, headers=default)
        assert refused.json()["error"]["code"] == "daily_tokens_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= DAY
        assert (await client.get("/v1/support", headers=default)).status_code == 200
    async with running(settings) as client:  # The counts survive a restart.
        assert (await client.post(ASK, json=SAID, headers=default)).status_code == 429


async def test_a_reply_that_is_broken_off_costs_its_pieces(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    headers = headers_of(keys, "ada", KeyTerms(daily_tokens=2))
    backend = ScriptedBackend(words=("a ",) * 200, pause_seconds=0.02)
    async with (
        served(create_app(backend, ServeSettings(keys_file=keys.path))) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        async with client.stream("POST", ASK, json={**SAID, "stream": True}, headers=headers) as answer:
            pieces = answer.aiter_bytes()
            for _ in range(4):
                await anext(pieces)
        async with asyncio.timeout(10):
            while (await client.post(ASK, json=SAID, headers=headers)).status_code != 429:
                await asyncio.sleep(0.01)


def test_tokens_are_counted_by_day_and_saved(tmp_path: Path) -> None:
    now, path = [10.0 * DAY], tmp_path / "tokens"
    budget = TokenBudget(path, clock=lambda: now[0])
    budget.add("ada", 5)
    budget.add("ada", 7)
    assert (budget.used("ada"), budget.used("grace"), budget.seconds_left) == (12, 0, DAY)
    budget.save()
    again = TokenBudget(path, clock=lambda: now[0])
    assert again.used("ada") == 12
    now[0] = 11.0 * DAY - 0.5
    assert (again.used("ada"), again.seconds_left) == (12, 1)
    now[0] = 11.0 * DAY
    assert again.used("ada") == 0


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"day": "x", "tokens": {}}', '{"day": 1, "tokens": {"a": "x"}}']
)
def test_a_broken_count_of_tokens_stops_no_service(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(content)
    assert TokenBudget(path).used("a") == 0


SCOPED: list[tuple[KeyScope, str, str]] = [
    ("chat", "GET", "/v1/models"),
    ("chat", "POST", ASK),
    ("support", "POST", SESSIONS),
    ("support", "GET", f"{SESSIONS}/unknown"),
    ("metrics", "GET", "/metrics"),
]


@pytest.mark.parametrize(("scope", "method", "path"), SCOPED, ids=[path for _, _, path in SCOPED])
async def test_a_key_opens_only_the_routes_of_its_scopes(
    tmp_path: Path, scope: KeyScope, method: str, path: str
) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    every: tuple[KeyScope, ...] = ("chat", "support", "metrics")
    right = headers_of(keys, "right", KeyTerms(scopes=(scope,)))
    wrong = headers_of(keys, "wrong", KeyTerms(scopes=tuple(other for other in every if other != scope)))
    app = create_app(ScriptedBackend(), ServeSettings(keys_file=keys.path, sessions=True))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        content = json.dumps(SAID if path == ASK else {})
        sent = {"content-type": "application/json"}
        allowed = await client.request(method, path, content=content, headers=right | sent)
        refused = await client.request(method, path, content=content, headers=wrong | sent)
    assert allowed.status_code in (200, 201, 404)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")


async def test_an_expired_key_is_refused_like_a_wrong_one(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    old, valid = headers_of(keys, "old", KeyTerms(expires=1)), headers_of(keys, "valid")
    app = create_app(ScriptedBackend(), ServeSettings(keys_file=keys.path))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        assert (await client.get("/v1/models", headers=old)).json()["error"]["code"] == "invalid_api_key"
        assert (await client.get("/v1/models", headers=valid)).status_code == 200


async def test_responses_tell_what_is_left_of_the_limits(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    headers = headers_of(keys, "ada", KeyTerms(daily_tokens=100))
    settings = ServeSettings(keys_file=keys.path, requests_per_minute=2)
    async with running(settings) as client:
        first, second, refused = [await client.post(ASK, json=SAID, headers=headers) for _ in range(3)]
    spent = sum(first.json()["usage"][name] for name in ("prompt_tokens", "completion_tokens"))
    assert [answer.status_code for answer in (first, second, refused)] == [200, 200, 429]
    left = [answer.headers["x-ratelimit-remaining-requests"] for answer in (first, second, refused)]
    assert left == ["1", "0", "0"]
    assert [answer.headers["x-ratelimit-limit-requests"] for answer in (first, refused)] == ["2", "2"]
    # A request comes back every 30 s: one is missing after the first answer, two after the others.
    assert first.headers["x-ratelimit-reset-requests"] == "30s"
    assert 59 < float(refused.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
    assert spent > 0
    assert first.headers["x-ratelimit-remaining-tokens"] == "100"
    assert second.headers["x-ratelimit-remaining-tokens"] == str(100 - spent)
    assert "x-ratelimit-limit-tokens" not in refused.headers


async def test_service_without_keys_has_no_limits_to_tell() -> None:
    async with running(ServeSettings()) as client:
        answer = await client.post(ASK, json=SAID, headers={"host": "localhost"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


async def test_each_choice_of_a_request_takes_a_place_of_its_key(tmp_path: Path) -> None:
    keys, gate = KeyFile(tmp_path / "keys.json"), asyncio.Event()
    headers = headers_of(keys, "ada", KeyTerms(max_in_flight=4))
    backend = ScriptedBackend(gate=gate)
    app = create_app(backend, ServeSettings(keys_file=keys.path))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:

        async def asked(num_choices: int) -> httpx.Response:
            return await client.post(ASK, json={**SAID, "n": num_choices}, headers=headers)

        never = await asked(5)
        assert (never.status_code, never.json()["error"]["param"]) == (400, "n")
        busy = asyncio.create_task(asked(3))
        await until_waiting(backend, 3)
        refused = await asked(2)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_in_flight")
        allowed = asyncio.create_task(asked(1))
        await until_waiting(backend, 4)
        gate.set()
        assert [(await task).status_code for task in (busy, allowed)] == [200, 200]
        assert (await asked(4)).status_code == 200  # All places are free again.
