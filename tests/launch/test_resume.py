"""A run that is killed and resumed gives the same result as an uninterrupted run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.small_policy import small_folder

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[2]
SECONDS = 240
"""Timeout of one process: 15 s on free cores, mostly imports, and many times that on busy ones."""
RUN = "run"
"""A relative folder name, so that both runs have the same config."""
TINY = (
    "loop.num_steps=4", "loop.checkpoint_every=2", "loop.scenarios_per_step=2", "learner.mini_batches=1",
    "loop.track_policy=false",
    "rollout.group_size=2", "rollout.sampling.max_tokens=8", "rollout.context_length=512",
    "evaluation.max_scenarios=1", "evaluation.samples=1", "seed=3",
)  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * SECONDS)]


def assigned(policy: Path) -> list[str]:
    """Return the options of a run of four steps with a checkpoint after two."""
    return [part for value in (*TINY, f"policy={policy}", f"out={RUN}") for part in ("--set", value)]


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start `mica train --inline` in a folder, in a new process group."""
    folder.mkdir(exist_ok=True)
    code = "import sys; from mica_ray.cli import main; main(sys.argv[1:])"
    with (folder / "output").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-c", code, "train", "--inline", *options],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole process group at once; it cannot write anything more."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=SECONDS)


def finish(process: subprocess.Popen[bytes], folder: Path) -> Path:
    """Wait until a run ends, and return its run folder."""
    try:
        assert process.wait(timeout=SECONDS) == 0, (folder / "output").read_text()[-2000:]
    finally:
        kill(process)
    return folder / RUN


def lines(path: Path) -> list[dict[str, object]]:
    """Read the complete lines of a file that may still grow."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def kill_after(step: int, folder: Path, *options: str) -> Path:
    """Kill a run once the metrics contain a step and the next step has started."""
    process, deadline = start(folder, *options), time.monotonic() + SECONDS
    try:
        while not any(row["step"] == step and "loss" in row for row in lines(folder / RUN / "metrics.jsonl")):
            assert process.poll() is None, (folder / "output").read_text()[-2000:]
            assert time.monotonic() < deadline, f"no step {step} after {SECONDS} s"
            time.sleep(0.005)
    finally:
        kill(process)
    assert process.returncode == -signal.SIGKILL
    return folder / RUN


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    """Read the policy weights of the checkpoint whose next step is `step`."""
    from safetensors.torch import load_file

    return load_file(run / "checkpoints" / f"step-{step:06d}" / "learner" / "policy" / "model.safetensors")


def different(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> set[str]:
    """Return the names of tensors that are not bit-identical."""
    import torch

    assert left.keys() == right.keys()
    return {
        name for name in left if not torch.equal(left[name].view(torch.uint8), right[name].view(torch.uint8))
    }


def untimed(rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Remove the durations, which differ between runs."""
    return [{name: value for name, value in row.items() if not name.endswith("seconds")} for row in rows]


def test_killed_and_resumed_run_equals_the_undisturbed_one(tmp_path: Path) -> None:
    options = assigned(small_folder(tmp_path / "policy", tied=True))
    undisturbed = start(tmp_path / "straight", *options)
    try:
        killed = kill_after(2, tmp_path / "killed", *options)  # Step 2 is in no checkpoint.
        straight = finish(undisturbed, tmp_path / "straight")
    finally:
        kill(undisturbed)
    assert [path.name for path in (killed / "checkpoints").glob("step-*")] == ["step-000002"]

    resumed = finish(start(tmp_path / "killed", "--resume", RUN), tmp_path / "killed")

    assert (resumed / "config.json").read_bytes() == (straight / "config.json").read_bytes()
    # Both halves change the weights; otherwise equal weights would not test the resume.
    assert different(weights(straight, 2), weights(straight, 4))
    assert different(weights(resumed, 4), weights(straight, 4)) == set()
    dialogues = lines(resumed / "dialogues.jsonl")
    # Two scenarios of two dialogues each step.
    assert [row["step"] for row in dialogues] == [step for step in range(4) for _ in range(4)]
    assert dialogues == lines(straight / "dialogues.jsonl")
    metrics = lines(resumed / "metrics.jsonl")
    # The evaluation before training has its own line at step 0, the one after training is at step 4.
    assert [row["step"] for row in metrics] == [0, 0, 1, 2, 3, 4]
    assert untimed(metrics) == untimed(lines(straight / "metrics.jsonl"))


def test_run_killed_before_its_first_checkpoint_keeps_its_first_evaluation(tmp_path: Path) -> None:
    options = assigned(small_folder(tmp_path / "policy", tied=True))
    killed = kill_after(0, tmp_path, *options)
    assert not list((killed / "checkpoints").glob("step-*"))
    before = lines(killed / "metrics.jsonl")[0]
    assert "eval_epm_q" in before

    resumed = finish(start(tmp_path, "--resume", RUN), tmp_path)

    metrics = lines(resumed / "metrics.jsonl")
    # Logged again without being measured again: the numbers are those of the stored evaluation.
    assert metrics[0] == before
    assert [row["step"] for row in metrics] == [0, 0, 1, 2, 3, 4]
