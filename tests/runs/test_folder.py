"""A run folder belongs to one run, contains strict JSON, and is read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mica_ray.config import ConfigError, RunConfig
from mica_ray.evaluation.evaluate import compare, summarize
from mica_ray.launch.domain_source import read_domain
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.run_writer import RunWriter
from mica_ray.runs.summary import RunSummary
from mica_ray.tracking.tracker import JsonlTracker
from mica_ray.types import (
    Judgement,
    Stop,
    Trajectory,
    Turn,
)


def test_run_folder_is_never_shared_by_two_runs(tmp_path: Path) -> None:
    RunFolder.create(RunConfig(), tmp_path / "run")
    with pytest.raises(ConfigError, match="not empty"):
        RunFolder.create(RunConfig(), tmp_path / "run")


def test_evaluation_dialogues_are_strict_json_without_credit(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path / "run")
    scenario = read_domain(RunConfig()).played.split("test")[0]
    judgement = Judgement((1, 0, 0), (0, 0, 0), (1.0, 0.0, 0.0))
    c, a, p = scenario.initial_state
    turn = Turn(0, scenario.opening, "I hear you.", judgement, (c + 1.0, a, p))
    evaluation = summarize([Trajectory(scenario, 0, 0, (turn,), Stop.LIMIT)], seed=0)
    tracker = JsonlTracker(folder.metrics)
    RunWriter(RunConfig(), folder).write_evaluation("before", evaluation, tracker, step=0)

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is no JSON")

    text = folder.evaluation_dialogues("before").read_text()
    (written,) = json.loads(text, parse_constant=refuse)["turns"]
    assert (written["return"], written["advantage"]) == (None, None)
    assert written["reward"] > 0


def test_every_start_of_a_run_notes_what_it_ran_in(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path / "run")
    for first_step in (0, 20, 10):  # Resumed at step 20, then again from an older checkpoint.
        RunWriter(RunConfig(), folder).write_environment(first_step)
    rows = [json.loads(line) for line in folder.environment.read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 10]
    assert "version.numpy" in rows[1] and "python" in rows[1]


def test_kept_evaluation_is_read_back(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(), tmp_path / "run")
    assert folder.read_evaluation("before", seed=0) is None
    folder.write_evaluation("before", summarize([], seed=0))
    again = folder.read_evaluation("before", seed=0)
    assert again is not None
    assert again.rows == ()


def test_summary_lists_why_scores_are_not_comparable(tmp_path: Path) -> None:
    folder, nothing = RunFolder.create(RunConfig(), tmp_path / "run"), summarize([], seed=0)
    difference = compare(nothing, nothing, seed=0)
    summary = RunSummary(
        folder,
        tmp_path,
        "sqlite:///",
        nothing,
        nothing,
        difference,
        {},
        {},
        None,
        reasons=("max_turns 12, not 45",),
    )
    assert summary.to_json()["reasons_not_comparable"] == ["max_turns 12, not 45"]
