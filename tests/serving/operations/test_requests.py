"""What the operator sees of each request: id, audit line, metrics, readiness. Never any text."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from mica_ray.safety.check import HelpLines
from mica_ray.safety.rules import CareRules, RuleCare
from mica_ray.serving.http.api_keys import KeyFile
from mica_ray.serving.http.backend import BackendError, ChatRequest, TextDelta
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.operations.readiness import Readiness
from mica_ray.serving.operations.request_middleware import AUDIT_LOG
from mica_ray.serving.web_app import create_app
from tests.serving.local_service import served
from tests.serving.scripted_backend import ScriptedBackend

ASK = "/v1/chat/completions"
SECRET = "nobody-may-read-this-7Q0"
SAID = {"messages": [{"role": "user", "content": SECRET}]}
CARE = RuleCare(CareRules.read(), HelpLines())


def asked(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("sent", ["a", "req-1.2:3_4", "x" * 128])
async def test_a_request_keeps_a_valid_id(sent: str) -> None:
    async with asked(create_app(ScriptedBackend(), ServeSettings())) as client:
        for path in ("/health", "/v1/models", "/unknown"):
            answer = await client.get(path, headers={"x-request-id": sent})
            assert answer.headers.get_list("x-request-id") == [sent]


@pytest.mark.parametrize(
    "sent", [None, "", "x" * 129, "a b", "<script>", 'a"b', "a,b", "ä".encode()], ids=ascii
)
async def test_any_other_request_gets_an_id_of_its_own(sent: str | None) -> None:
    headers = {} if sent is None else {"x-request-id": sent}
    async with asked(create_app(ScriptedBackend(), ServeSettings())) as client:
        found = [(await client.get("/health", headers=headers)).headers["x-request-id"] for _ in range(2)]
    assert all(re.fullmatch(r"req-[0-9a-f]{24}", one) for one in found)
    assert found[0] != found[1]


async def test_each_request_has_one_audit_line_without_text(tmp_path: Path) -> None:
    keys, audit = KeyFile(tmp_path / "keys.json"), tmp_path / "audit.jsonl"
    secret_key = keys.add("ada")
    good = {"Authorization": f"Bearer {secret_key}"}
    settings = ServeSettings(keys_file=keys.path, audit_file=audit, sessions=True)
    danger = {"messages": [{"role": "user", "content": f"I want to kill myself {SECRET}"}], "stream": True}
    async with asked(create_app(ScriptedBackend(), settings, care=CARE)) as client:
        await client.post(ASK, json=SAID, headers=good | {"x-request-id": "mine"})
        await client.post(ASK, json=danger, headers=good)
        await client.post(ASK, json=SAID)
        await client.post(ASK, json={"messages": [], SECRET: SECRET}, headers=good)
        session = (await client.post("/v1/support/sessions", json={}, headers=good)).json()["id"]
        await client.get(f"/v1/support/sessions/{session}", headers=good)
        await client.get(f"/{SECRET}")
        await client.put("/health")
    text = audit.read_text()
    assert not any(hidden in text for hidden in (SECRET, secret_key, session, "sounds"))
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 8
    assert set(lines[0]) == {
        "time", "id", "method", "route", "status", "complete", "ms", "key", "model", "prompt_tokens",
        "completion_tokens", "first_ms", "care", "error",
    }  # fmt: skip
    assert [(line["route"], line["status"], line["error"]) for line in lines] == [
        (ASK, 200, None),
        (ASK, 200, None),
        (ASK, 401, "missing_api_key"),
        (ASK, 400, "invalid_request_error"),
        ("/v1/support/sessions", 201, None),
        ("/v1/support/sessions/{session_id}", 200, None),
        ("unknown", 404, "no_such_route"),
        ("/health", 405, "method_not_allowed"),
    ]
    first, danger_line = lines[0], lines[1]
    assert (first["id"], first["key"], first["model"], first["care"]) == ("mine", "ada", "support", None)
    assert (first["prompt_tokens"], first["completion_tokens"], first["complete"]) == (7, 3, True)
    assert 0 <= first["first_ms"] <= first["ms"]
    assert danger_line["care"] == "self_harm"


async def test_without_a_file_the_audit_lines_go_to_a_logger(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=AUDIT_LOG):
        async with asked(create_app(ScriptedBackend(), ServeSettings())) as client:
            await client.post(ASK, json=SAID)
    (line,) = [record.message for record in caplog.records if record.name == AUDIT_LOG]
    assert json.loads(line)["completion_tokens"] == 3
    assert SECRET not in line


async def test_a_request_that_is_broken_off_is_recorded_as_such(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    backend = ScriptedBackend(words=("a ",) * 200, pause_seconds=0.02)
    async with (
        served(create_app(backend, ServeSettings(audit_file=audit))) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        async with client.stream("POST", ASK, json={**SAID, "stream": True}) as answer:
            await anext(answer.aiter_bytes())
        async with asyncio.timeout(10):
            while not audit.read_text():
                await asyncio.sleep(0.01)
    line = json.loads(audit.read_text())
    assert line["complete"] is False and 1 <= line["completion_tokens"] < 200


async def test_requests_tokens_and_rejections_are_counted() -> None:
    before = {
        "requests": sample("mica_requests_total", status="200"),
        "in": sample("mica_tokens_total", model="counted", direction="in"),
        "out": sample("mica_tokens_total", model="counted", direction="out"),
        "first": sample("mica_first_token_seconds_count", model="counted"),
        "rejected": sample("mica_rejections_total", reason="model_not_found"),
    }
    app = create_app(ScriptedBackend(names=("counted",)), ServeSettings())
    async with asked(app) as client:
        for _ in range(2):
            await client.post(ASK, json=SAID)
        await client.post(ASK, json={**SAID, "model": SECRET})
        shown = (await client.get("/metrics")).text
    assert sample("mica_requests_total", status="200") - before["requests"] == 3  # /metrics is one of them.
    assert sample("mica_tokens_total", model="counted", direction="in") - before["in"] == 14
    assert sample("mica_tokens_total", model="counted", direction="out") - before["out"] == 6
    assert sample("mica_first_token_seconds_count", model="counted") - before["first"] == 2
    assert sample("mica_rejections_total", reason="model_not_found") - before["rejected"] == 1
    assert SECRET not in shown


async def test_the_queue_is_what_waits_for_its_first_piece() -> None:
    gate = asyncio.Event()
    backend = ScriptedBackend(gate=gate)
    waiting, in_flight = sample("mica_requests_waiting"), sample("mica_requests_in_flight")
    async with (
        served(create_app(backend, ServeSettings())) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        tasks = [asyncio.create_task(client.post(ASK, json=SAID)) for _ in range(3)]
        async with asyncio.timeout(10):
            while len(backend.requests) < 3:
                await asyncio.sleep(0.01)
        assert sample("mica_requests_waiting") - waiting == 3
        assert sample("mica_requests_in_flight") - in_flight == 3
        gate.set()
        await asyncio.gather(*tasks)
    assert (sample("mica_requests_waiting"), sample("mica_requests_in_flight")) == (waiting, in_flight)


@pytest.mark.parametrize(
    ("kind", "status", "state"),
    [
        (None, 200, "ready"),
        ("busy", 200, "ready"),
        ("unavailable", 503, "unavailable"),
        ("timeout", 503, "timeout"),
        ("refused", 503, "refused"),
    ],
)
async def test_ready_shows_whether_the_model_answers_and_health_whether_the_process_runs(
    kind: Any, status: int, state: str
) -> None:
    error = None if kind is None else BackendError("down", kind=kind)
    async with asked(create_app(ScriptedBackend(error=error), ServeSettings())) as client:
        answer = await client.get("/ready")
        assert (answer.status_code, answer.json()["models"]) == (status, {"support": state})
        assert (await client.get("/health")).status_code == 200


async def test_ready_needs_no_key_and_names_no_reason_beyond_the_kind(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    keys.add("ada")
    backend = ScriptedBackend(error=BackendError(SECRET, kind="unavailable"))
    async with asked(create_app(backend, ServeSettings(keys_file=keys.path))) as client:
        answer = await client.get("/ready")
    assert answer.status_code == 503 and SECRET not in answer.text


async def test_a_probe_costs_a_token_every_few_seconds_only() -> None:
    now, backend = [0.0], ScriptedBackend()
    readiness = Readiness(backend, clock=lambda: now[0])
    for moment, num_probes in ((0.0, 1), (4.9, 1), (5.0, 2), (9.9, 2), (10.0, 3)):
        now[0] = moment
        await asyncio.gather(*(readiness.outcome() for _ in range(5)))
        assert len(backend.requests) == num_probes
    assert backend.requests[0].sampling.max_tokens == 1


@dataclass
class Hanging(ScriptedBackend):
    """Never sends a piece."""

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        await asyncio.sleep(3600)
        yield TextDelta("")


async def test_a_model_that_hangs_is_not_ready() -> None:
    assert await Readiness(Hanging(), answer_seconds=0.05).outcome() == {"support": "timeout"}


@pytest.mark.parametrize("path", ["/health", "/v1/models", ASK, "/ready", "/metrics", "/v1/support"])
async def test_a_wrong_method_is_named_as_such(path: str) -> None:
    async with asked(create_app(ScriptedBackend(), ServeSettings())) as client:
        answer = await client.put(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"]


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/models/", "/v1/models"),
        ("/v1/models/v1", "/v1/models/{model}"),
        ("/v1/models/v1/models/s", "/v1/models/{model}"),
        ("/v1/support/sessions/s", "/v1/support/sessions/{session_id}"),
        ("/v1/support/sessions/sessions/messages", "/v1/support/sessions/{session_id}/messages"),
        ("/v1/responses/", "/v1/responses/{response_id}"),
        (f"/static/{SECRET}", "/static/{path}"),
        (f"/{SECRET}", "unknown"),
        ("/", "/"),
    ],
)
async def test_the_audit_line_has_the_route_and_never_a_part_of_the_path(
    tmp_path: Path, path: str, route: str
) -> None:
    audit = tmp_path / "audit.jsonl"
    app = create_app(ScriptedBackend(), ServeSettings(sessions=True, audit_file=audit))
    async with asked(app) as client:
        await client.get(path)
    assert json.loads(audit.read_text())["route"] == route
