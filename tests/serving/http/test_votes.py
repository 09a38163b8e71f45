"""Votes on two models, and the metrics: which requests are rejected, and what is stored."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from mica_ray.serving.http.api_keys import KeyFile
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.web_app import create_app
from tests.serving.scripted_backend import ScriptedBackend

GOOD = {"left": "base", "right": "trained", "choice": "tie"}


def client(settings: ServeSettings) -> httpx.AsyncClient:
    app = create_app(ScriptedBackend(names=("trained", "base")), settings)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def test_a_vote_is_kept_without_any_text(tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    async with client(ServeSettings(votes_file=votes)) as asked:
        sent = GOOD | {"text": "what was said"}
        assert (await asked.post("/v1/support/votes", json=sent)).status_code == 201
    (vote,) = [json.loads(line) for line in votes.read_text().splitlines()]
    assert {name: vote[name] for name in GOOD} == GOOD
    assert set(vote) == {*GOOD, "time"}


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
    good = {"Authorization": f"Bearer {KeyFile(keys).add('prometheus')}"}
    async with client(ServeSettings(keys_file=keys, votes_file=tmp_path / "votes.jsonl")) as asked:
        assert (await asked.post("/v1/support/votes", json=GOOD)).status_code == 401
        assert (await asked.get("/metrics")).status_code == 401
        shown = await asked.get("/metrics", headers=good)
    assert shown.status_code == 200
    assert "process_cpu_seconds_total" in shown.text
