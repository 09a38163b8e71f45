"""A run is checked once, and its domain is loaded once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mica_ray.cli import main
from tests.launch import counted_domain
from tests.small_policy import small_folder

TINY = (
    "loop.num_steps=1", "loop.scenarios_per_step=1", "learner.mini_batches=1", "loop.track_policy=false",
    "rollout.group_size=1", "rollout.sampling.max_tokens=4", "rollout.context_length=512", "retellings=0",
    "evaluation.max_scenarios=1", "evaluation.samples=1", 'rules={"max_turns": 1, "check_from": 1}',
)  # fmt: skip


@pytest.mark.slow
def test_train_and_evaluate_load_their_domain_once(tmp_path: Path) -> None:
    policy, folder = small_folder(tmp_path / "policy", tied=True), tmp_path / "run"
    counted = "domain=tests.launch.counted_domain:COUNTED"
    options = [part for value in (*TINY, counted) for part in ("--set", value)]
    for command in (
        ["train", "--inline", *options, "--set", f"policy={policy}", "--set", f"out={folder}"],
        ["train", "--inline", "--resume", str(folder), "--trust"],
        ["evaluate", str(folder), "--inline", "--trust"],
    ):
        counted_domain.loads.clear()
        with pytest.raises(SystemExit) as caught:
            main(command)
        assert caught.value.code == 0
        assert counted_domain.loads == ["COUNTED"]
