"""MLflow status of runs that fail, are killed, resumed or finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from mica_ray.cli import main
from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.launch import run
from mica_ray.runs.folder import RunFolder
from mica_ray.tracking.mlflow_store import connect
from mica_ray.tracking.tracker import Ending
from tests.small_policy import small_folder

ROOT = Path(__file__).parents[2]
SECONDS = 240
"""Timeout of one process: 15 s on free cores, mostly imports, and many times that on busy ones."""
TINY = (
    "loop.num_steps=2", "loop.checkpoint_every=1", "loop.scenarios_per_step=2", "learner.mini_batches=1",
    "loop.track_policy=false", "retellings=0",
    "rollout.group_size=2", "rollout.sampling.max_tokens=8", "rollout.context_length=512",
    "evaluation.max_scenarios=1", "evaluation.samples=1",
)  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * SECONDS)]


class BreaksAt:
    """A tracker that raises when a step is logged, and stores how it was closed."""

    def __init__(self, step: int) -> None:
        self._step = step
        self.ending: Ending | None = None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if step == self._step and "loss" in metrics:
            raise RuntimeError("the disk is full")

    def artifact(self, path: Path) -> None: ...

    def close(self, ending: Ending = "finished") -> None:
        self.ending = ending


def status(folder: RunFolder) -> str:
    return str(connect(folder.tracking_uri).get_run(folder.read_tracking_run() or "").info.status)


def test_failed_run_is_marked_and_finished_once_it_went_on_and_is_then_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, folder = small_folder(tmp_path / "policy", tied=True), RunFolder(tmp_path / "run")
    config = override(RunConfig(), (*TINY, f"policy={policy}", f"out={folder.path}"))
    tracker = BreaksAt(1)
    with pytest.raises(RuntimeError, match="the disk is full"):
        run.run_training(run.check(config, inline=True), tracker=tracker)
    assert tracker.ending == "failed"
    assert status(folder) == "FAILED"
    named = config.model_copy(update={"register_as": "support"})
    summary = run.run_training(run.check(named, inline=True), resume=folder.path)
    assert status(folder) == "FINISHED"
    assert summary.registered == "support version 1"
    client = connect(folder.tracking_uri)
    version = client.get_model_version("support", "1")
    assert version.run_id == folder.read_tracking_run()
    assert version.tags["epm_q"] == f"{summary.after.epm_q.estimate:.2f}"
    assert (version.tags["contaminated"], version.tags["evaluated_on"]) == ("false", "test")
    # With loop.track_policy=false, the registration uploads the policy.
    names = {Path(item.path).name for item in client.list_artifacts(str(version.run_id), "policy")}
    assert {"config.json", "tokenizer.json"} <= names
    written = folder.summary.read_bytes()
    for options in ((), ("--dry-run",)):
        with pytest.raises(SystemExit) as refused:
            main(
                ["train", "--inline", "--resume", str(folder.path), "--set", "evaluation.samples=2", *options]
            )
        assert refused.value.code == 2
    assert "evaluation.samples was 1 and is now 2" in capsys.readouterr().err
    assert folder.summary.read_bytes() == written


@pytest.mark.long
def test_terminated_run_is_marked_as_killed(tmp_path: Path) -> None:
    policy, folder = small_folder(tmp_path / "policy", tied=True), RunFolder(tmp_path / "run")
    options = [
        part
        for value in (*TINY, "loop.num_steps=500", f"policy={policy}", f"out={folder.path}")
        for part in ("--set", value)
    ]
    code = "import sys; from mica_ray.cli import main; main(sys.argv[1:])"
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "train", "--inline", *options],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + SECONDS
    try:
        while not (folder.metrics.is_file() and '"loss"' in folder.metrics.read_text()):
            assert process.poll() is None, (tmp_path / "output").read_text()[-2000:]
            assert time.monotonic() < deadline, f"no step after {SECONDS} s"
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=SECONDS) == 128 + signal.SIGTERM
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=SECONDS)
    assert status(folder) == "KILLED"
