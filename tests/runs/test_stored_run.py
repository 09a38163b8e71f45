"""Reading the files of a run, finished or not, and the one-line errors for invalid files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mica_ray.config.references import ConfigError
from mica_ray.runs.stored_run import read_runs
from tests.runs.written_run import write_run


def test_unfinished_run_is_read_as_far_as_it_went(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", is_finished=False)
    (folder / "environment.jsonl").unlink()
    # An incomplete line, as a kill leaves it: no newline at the end.
    with (folder / "dialogues.jsonl").open("a") as file:
        file.write('{"step": 2, "gro')
    (run,) = read_runs([folder])
    assert run.summary is None and run.environment == ()
    assert (run.num_steps, run.num_planned, len(run.dialogues)) == (2, 22, 4)


def test_series_keeps_a_value_that_was_no_number_as_a_gap(tmp_path: Path) -> None:
    (run,) = read_runs([write_run(tmp_path / "run")])
    steps, values = run.series("reward_mean")
    assert steps == [0, 1]
    np.testing.assert_array_equal(values, [0.5, np.nan])
    assert run.total("judge_ok") == 6 and run.total("actor_ok") is None


def test_costs_are_read_by_phase_and_role(tmp_path: Path) -> None:
    (run,) = read_runs([write_run(tmp_path / "run")])
    assert run.costs["train"]["judge"].calls == 7


def test_runs_of_one_folder_name_are_told_apart(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run")])
    assert [run.name for run in runs] == ["a/run", "b/run"]


def test_folder_that_is_no_run_and_run_without_steps_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no config\.json, so it is no run folder"):
        read_runs([tmp_path])
    folder = write_run(tmp_path / "run")
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(ConfigError, match=r"metrics\.jsonl contains no step yet.* --resume"):
        read_runs([folder])
    with pytest.raises(ConfigError, match="listed twice"):
        read_runs([folder, folder])


@pytest.mark.parametrize("name", ["metrics.jsonl", "dialogues.jsonl"])
def test_broken_line_is_named(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "run")
    for line, problem in (("{", ".*JSON"), ("3", "must be a JSON object")):
        (folder / name).write_text(f'{{"step": 0}}\n{line}\n')
        with pytest.raises(ConfigError, match=rf"{name}, line 2: {problem}"):
            read_runs([folder])


def test_line_that_is_no_cost_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "costs.jsonl").write_text('{"phase": "train"}\n')
    with pytest.raises(ConfigError, match=r"costs\.jsonl has an invalid line"):
        read_runs([folder])
