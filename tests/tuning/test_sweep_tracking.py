"""The MLflow run of a sweep, read back from the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from mica_ray.config import ConfigError, RunConfig
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.mlflow_run import open_tracking, start_tracking, sweep_store
from mica_ray.statistics import Interval
from mica_ray.tracking.mlflow_store import connect, start_run
from mica_ray.tracking.mlflow_tracker import MlflowTracker
from mica_ray.tuning.folder_lock import locked
from mica_ray.tuning.search import rounds
from mica_ray.tuning.session import run_session
from mica_ray.tuning.space import Cell
from mica_ray.tuning.sweep import Sweep
from mica_ray.tuning.sweep_folder import SweepFolder
from mica_ray.tuning.sweep_result import CellRow, SweepResult
from mica_ray.tuning.sweep_tracking import SweepTracking, cell_metrics
from mica_ray.tuning.trial import Trial, check_same_config, make_trials
from mica_ray.tuning.trial_book import TrialEntry
from tests.small_policy import small_folder
from tests.tuning.finished_trials import finish
from tests.tuning.tiny_sweep import tiny_sweep

SECONDS = 600
"""Limit for two sessions of a sweep on a loaded machine; an idle one needs one minute."""
SWEEP = Sweep(
    name="tracked", question="Which alpha?", space={"credit.alpha": (0.0, 1.0)}, seeds=(0, 1), inline=True
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests: creating one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


def runs_of(client: MlflowClient, experiment: str) -> tuple[Run, list[Run]]:
    """Return the only run without a parent, and its children."""
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs: list[Run] = client.search_runs([found.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {parent.info.run_id}
    return parent, children


def metric_rows(client: MlflowClient, runs: Sequence[Run]) -> list[tuple[str, str, int]]:
    """Return run, name and step of every row of every metric."""
    return sorted(
        (run.info.run_id, name, row.step)
        for run in runs
        for name in run.data.metrics
        for row in client.get_metric_history(run.info.run_id, name)
    )


def all_files(client: MlflowClient, run: Run, folder: str | None = None) -> set[str]:
    items = client.list_artifacts(run.info.run_id, folder)
    deeper = [all_files(client, run, item.path) for item in items if item.is_dir]
    return {item.path for item in items if not item.is_dir}.union(*deeper)


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(2 * SECONDS)
def test_played_sweep_is_one_run_over_its_trials_and_a_resume_adds_nothing(
    ray_cluster: None, tmp_path: Path
) -> None:
    sweep = tiny_sweep(str(small_folder(tmp_path / "policy", tied=True)), 0.0, 1.0, seeds=(0, 1))
    folder = SweepFolder(tmp_path / "sweep")
    outcome = run_session(sweep, folder)
    assert [entry.status for entry in outcome.entries] == ["finished"] * 4, outcome.entries
    client = connect(sweep_store(folder.path, None))
    parent, children = runs_of(client, "tiny")
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 5
    assert sorted(str(run.info.run_name) for run in children) == [
        f"alpha={alpha}-seed{seed}" for alpha in (0, 1) for seed in (0, 1)
    ]
    assert parent.data.params["space.credit.alpha"] == "0, 1"
    assert parent.data.tags["answer"] == outcome.answer
    assert parent.data.tags["mlflow.note.content"] == "Does it matter?"
    assert "version.torch" in parent.data.tags
    assert all_files(client, parent) == {
        "sweep.json", "cells.csv", "cells.md", "figures/metric_by_cell.png", "figures/learning_curves.png",
    }  # fmt: skip
    for run in children:
        assert "version.torch" in run.data.tags
        assert run.data.params["tracking_parent"] == parent.info.run_id
        assert run.inputs is not None
        digests = {item.dataset.digest for item in run.inputs.dataset_inputs}
        contexts = {tag.value for item in run.inputs.dataset_inputs for tag in item.tags}
        assert contexts == {"training", "evaluation"} and all(len(digest) == 16 for digest in digests)
        losses = client.get_metric_history(run.info.run_id, "loss")
        assert sorted(row.step for row in losses) == [0, 1]
    rows = metric_rows(client, [parent, *children])
    assert len(set(rows)) == len(rows)

    assert run_session(sweep, folder, resumes=True).record() == outcome.record()
    again, same = runs_of(client, "tiny")
    assert again.info.run_id == parent.info.run_id and again.info.status == "FINISHED"
    assert metric_rows(client, [again, *same]) == rows


def test_session_that_finishes_more_trials_adds_its_numbers_to_the_same_run(
    store: str, tmp_path: Path
) -> None:
    sweep = replace(SWEEP, name="more", base=RunConfig(tracking_uri=store))
    folder, client = SweepFolder(tmp_path / "sweep"), connect(store)
    first, *others = SweepTracking(sweep, folder).with_parent(
        make_trials(sweep, next(rounds(sweep)), folder.trials)
    )
    _finish_tracked(first, 10.0)
    folder.book.write_text(json.dumps({"seconds": 0.0}))
    stopped = replace(sweep, seeds=(0,), space={"credit.alpha": (0.0,)})
    for _ in range(2):
        run_session(stopped, folder, resumes=True)
        parent, children = runs_of(client, "more")
        assert [run.info.run_name for run in children] == ["alpha=0-seed0"]
        name = "interquartile_mean/alpha_0"
        assert [(row.step, row.value) for row in client.get_metric_history(parent.info.run_id, name)] == [
            (1, 10.0)
        ]
    for trial in others:
        _finish_tracked(trial, 20.0)
    outcome = run_session(sweep, folder, resumes=True)
    parent, children = runs_of(client, "more")
    assert len(children) == 4
    # Seeds 0 and 1 of alpha=0 score 10 and 20; four trials have finished.
    history = client.get_metric_history(parent.info.run_id, "mean/alpha_0")
    assert sorted((row.step, row.value) for row in history) == [(1, 10.0), (4, 15.0)]
    assert parent.data.tags["answer"] == outcome.answer
    assert parent.info.status == "FINISHED"


def _finish_tracked(trial: Trial, score: float) -> None:
    """Write the files of a finished trial, including its MLflow run."""
    finish(trial, {"a": score})
    start_tracking(RunConfig.read(trial.folder.config_file), trial.folder).close()


def test_run_of_a_trial_whose_process_was_killed_is_ended_by_the_sweep(store: str, tmp_path: Path) -> None:
    sweep = replace(SWEEP, name="killed", base=RunConfig(tracking_uri=store))
    folder, client = SweepFolder(tmp_path / "sweep"), connect(store)
    tracking = SweepTracking(sweep, folder)
    trials = tracking.with_parent(make_trials(sweep, next(rounds(sweep)), folder.trials))
    for trial in trials:
        tracker = start_tracking(trial.config, RunFolder.create(trial.config, trial.folder.path))
        tracker.log({"loss": 1.0}, 0)
        tracker.flush()
    entries = [
        TrialEntry(trial, status=status)
        for trial, status in zip(trials, ("failed", "stopped", "failed", "running"), strict=True)
    ]
    # Another process is still training the third trial and will end its run.
    with locked(folder.lock(trials[2].id), "taken"):
        tracking.close(entries, "stopped")
    parent, children = runs_of(client, "killed")
    ended = {run.info.run_name: run.info.status for run in children}
    assert [ended[trial.id] for trial in trials] == ["FAILED", "KILLED", "RUNNING", "KILLED"]
    assert parent.info.status == "KILLED"


def test_where_a_trial_is_tracked_makes_no_other_config_of_it(store: str, tmp_path: Path) -> None:
    sweep = replace(SWEEP, name="places", base=RunConfig(tracking_uri=store))
    folder = SweepFolder(tmp_path / "sweep")
    plain = make_trials(sweep, next(rounds(sweep)), folder.trials)
    tracking = SweepTracking(sweep, folder)
    placed = tracking.with_parent(plain)
    tracking.close((), "finished")
    assert [trial.id for trial in placed] == [trial.id for trial in plain]
    assert placed[0].config.tracking_parent and plain[0].config.tracking_parent is None
    finish(placed[0], {"a": 1.0})
    check_same_config(plain[0])
    # A trial that started without a sweep stays in the store where it started.
    finish(replace(plain[1], config=plain[1].config.model_copy(update={"tracking_uri": None})), {"a": 1.0})
    (kept,) = tracking.with_parent(plain[1:2])
    assert (kept.config.tracking_uri, kept.config.tracking_parent) == (None, None)


def test_store_that_is_away_ends_the_sweep_before_its_first_trial(tmp_path: Path) -> None:
    sweep = replace(SWEEP, base=RunConfig(tracking_uri="http://127.0.0.1:9"))
    folder = SweepFolder(tmp_path / "sweep")
    with pytest.raises(ConfigError, match=r"http://127\.0\.0\.1:9 cannot start a run"):
        run_session(sweep, folder)
    # The same command can be repeated without --resume.
    assert not folder.book.exists() and not folder.trials.exists()


def test_what_a_trial_told_while_the_store_was_away_is_sent_to_the_run_begun_then(
    store: str, tmp_path: Path
) -> None:
    config = RunConfig(name="late", tracking_uri=store, tracking_parent="0" * 32)
    folder = RunFolder.create(config, tmp_path / "trial")

    def begin() -> str:
        return start_run("http://127.0.0.1:9", experiment="late", run_name="trial", artifacts=tmp_path)

    tracker = MlflowTracker(store, begin, folder.outbox, drain_seconds=0.1)
    tracker.log({"loss": 1.0}, 0)
    tracker.close()
    assert folder.read_tracking_run() is None
    assert open_tracking(config, folder).flush() == 0
    run = connect(store).get_run(folder.read_tracking_run() or "")
    assert (run.data.metrics, run.info.status) == ({"loss": 1.0}, "FINISHED")
    assert run.data.tags["mlflow.parentRunId"] == "0" * 32


def test_sqlite_file_is_found_from_wherever_a_trial_runs(tmp_path: Path) -> None:
    assert sweep_store(tmp_path, None) == f"sqlite:///{tmp_path}/mlflow.db"
    assert sweep_store(tmp_path, "sqlite:///a.db") == f"sqlite:///{Path.cwd()}/a.db"
    assert sweep_store(tmp_path, "sqlite:////b/a.db") == "sqlite:////b/a.db"
    assert sweep_store(tmp_path, "http://host:5000") == "http://host:5000"


def test_cells_whose_names_are_one_to_mlflow_are_told_apart() -> None:
    one = Interval(1.0, 0.5, 1.5)
    cells = [Cell({"policy": label}, {"policy": label}) for label in ("a:b", "a=b", "c")]
    rows = tuple(CellRow(cell, {"finished": 1}, one, one, None, None, ()) for cell in cells)
    metrics = cell_metrics(SweepResult(rows, None, "", ()))
    assert sorted(name for name in metrics if name.startswith("mean/")) == [
        "mean/policy_a_b_0", "mean/policy_a_b_1", "mean/policy_c",
    ]  # fmt: skip
    assert (metrics["mean/policy_c"], metrics["mean_low/policy_c"]) == (1.0, 0.5)
