"""Trials on a real Ray: a killed trial is retried or marked as failed; a killed sweep is resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mica_ray.tuning.session import run_session
from mica_ray.tuning.sweep_folder import SweepFolder
from mica_ray.tuning.trial_book import TrialEntry
from tests.small_policy import small_folder
from tests.tuning.tiny_sweep import tiny_sweep

ROOT = Path(__file__).parents[2]
SECONDS = 300
"""Limit for one sweep: it takes 20 s on idle cores, and many times that on loaded ones."""
pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(4 * SECONDS)]


class Killer:
    """A watch that kills the process of each trial when it first reports, a given number of times."""

    def __init__(self, times: dict[str, int]) -> None:
        self._left = dict(times)
        self._killed: set[float] = set()

    def changed(self, before: TrialEntry, after: TrialEntry) -> None:
        process = after.metrics.get("pid")
        name = after.trial.cell.name
        if process is not None and process not in self._killed and self._left.get(name):
            self._left[name] -= 1
            self._killed.add(process)
            os.kill(int(process), signal.SIGKILL)


def test_killed_trials_are_retried_then_failed_and_leave_the_others_alone(
    ray_cluster: None, tmp_path: Path
) -> None:
    sweep = tiny_sweep(str(small_folder(tmp_path / "policy", tied=True)), 0.0, 0.5, 1.0)
    killer = Killer({"alpha=0": 2, "alpha=0.5": 1})
    outcome = run_session(sweep, SweepFolder(tmp_path / "sweep"), watches=[killer])
    entries = {entry.trial.cell.name: entry for entry in outcome.entries}
    assert {name: (entry.status, entry.retries) for name, entry in entries.items()} == {
        "alpha=0": ("failed", 1),
        "alpha=0.5": ("finished", 1),
        "alpha=1": ("finished", 0),
    }
    assert "its process died" in entries["alpha=0"].reason
    assert "its process died" in entries["alpha=0.5"].reason
    assert entries["alpha=1"].reason == ""
    assert [dict(row.trials) for row in outcome.rows] == [{"failed": 1}, {"finished": 1}, {"finished": 1}]


def test_killed_sweep_goes_on_to_the_table_of_an_undisturbed_one(ray_cluster: None, tmp_path: Path) -> None:
    policy = small_folder(tmp_path / "policy", tied=True)
    sweep = tiny_sweep(str(policy), 0.0, 1.0)
    straight = run_session(sweep, SweepFolder(tmp_path / "straight"))

    folder = SweepFolder(tmp_path / "killed")
    _kill_in_the_second_trial(policy, folder)
    first, second = (folder.trials / f"alpha={alpha}-seed0" for alpha in (0, 1))
    assert (first / "summary.json").is_file() and not (second / "summary.json").is_file()
    written = (first / "summary.json").stat().st_mtime_ns
    resumed = run_session(sweep, folder, resumes=True)

    assert (first / "summary.json").stat().st_mtime_ns == written
    assert resumed.record() == straight.record()
    # Each step appears once: the evaluation before, two steps, the evaluation after.
    steps = [json.loads(line)["step"] for line in (second / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 0, 1, 2]


def _kill_in_the_second_trial(policy: Path, folder: SweepFolder) -> None:
    """Start `mica sweep` with its own Ray, and kill it after the first step of the second trial."""
    file = folder.path.parent / "tiny.py"
    file.write_text(
        f"from tests.tuning.tiny_sweep import tiny_sweep\nSWEEP = tiny_sweep({str(policy)!r}, 0.0, 1.0)\n"
    )
    code = "import sys; from mica_ray.cli import main; main(sys.argv[1:])"
    output = folder.path.parent / "output"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "sweep", str(file), "--out", str(folder.path), "--concurrency", "1"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    metrics, deadline = folder.trials / "alpha=1-seed0" / "metrics.jsonl", time.monotonic() + SECONDS
    try:
        while not (metrics.is_file() and '"loss"' in metrics.read_text()):
            assert process.poll() is None, output.read_text()[-2000:]
            assert time.monotonic() < deadline, f"no step of the second trial after {SECONDS} s"
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=SECONDS)
