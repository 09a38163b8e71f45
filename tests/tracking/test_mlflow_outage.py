"""A real MLflow server stops and restarts: every metric of every step is stored once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mica_ray.tracking.mlflow_store import connect, start_run
from mica_ray.tracking.mlflow_tracker import MlflowTracker
from tests.tracking.mlflow_server import MlflowServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE_SECONDS = 120.0
"""Seconds without progress on a loaded machine; a free one needs one second."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


def wait_for_metric(uri: str, run_id: str, name: str, step: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while step not in {item.step for item in connect(uri).get_metric_history(run_id, name)}:
        assert time.monotonic() < deadline, f"{name} of step {step} did not arrive"
        time.sleep(0.1)


def test_server_that_went_away_has_every_step_once(server: MlflowServer, tmp_path: Path) -> None:
    run_id = start_run(server.uri, experiment="outage", run_name="one", artifacts=tmp_path / "unused")
    box = tmp_path / "outbox.jsonl"
    first = MlflowTracker(server.uri, run_id, box, drain_seconds=0.1)
    for step in range(3):
        first.log({"loss": float(step), "idr_mean": float("nan")}, step)
    wait_for_metric(server.uri, run_id, "loss", 2)
    server.stop()
    for step in range(3, 6):
        first.log({"loss": float(step), "idr_mean": 1.0}, step)
    assert first.flush() > 0
    # Killed and resumed from the checkpoint after step 1 while the server is down. The .sent file is lost, as
    # after a kill between sending and writing it.
    (tmp_path / "outbox.jsonl.sent").unlink()
    second = MlflowTracker(server.uri, run_id, box, drain_seconds=PATIENCE_SECONDS)
    for step in range(2, 8):
        second.log({"loss": float(step), "idr_mean": 1.0}, step)
    (tmp_path / "dialogues.jsonl").write_text("{}\n")
    second.artifact(tmp_path / "dialogues.jsonl")
    server.start()
    second.close()
    client = connect(server.uri)
    for name in ("loss", "idr_mean"):
        assert sorted(item.step for item in client.get_metric_history(run_id, name)) == list(range(8))
    losses = {item.step: item.value for item in client.get_metric_history(run_id, "loss")}
    assert losses == {step: float(step) for step in range(8)}
    assert client.get_run(run_id).info.status == "FINISHED"
    # The server stores the files, because another machine could not see ours.
    assert [item.path for item in client.list_artifacts(run_id)] == ["dialogues.jsonl"]
