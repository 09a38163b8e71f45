"""Every tracker takes metrics by step and files, and survives a resume."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from mica_ray.training.tracker import ConsoleTracker, JsonlTracker, MlflowTracker, Tracker, Trackers


def mlflow_tracker(folder: Path, run_id: str | None = None) -> MlflowTracker:
    return MlflowTracker(
        f"sqlite:///{folder / 'mlflow.db'}",
        experiment="tests",
        run_name="one",
        artifacts=folder / "artifacts",
        run_id=run_id,
        params={f"part.{number}": str(number) for number in range(120)},
        tags={"git": "abc"},
        description="what the metrics mean",
    )


TRACKERS: dict[str, Callable[[Path], Tracker]] = {
    "console": lambda folder: ConsoleTracker(Console(file=io.StringIO())),
    "jsonl": lambda folder: JsonlTracker(folder / "metrics.jsonl"),
    "mlflow": mlflow_tracker,
    "several": lambda folder: Trackers((JsonlTracker(folder / "a"), JsonlTracker(folder / "b"))),
}


@pytest.mark.parametrize("name", TRACKERS)
def test_tracker_takes_what_a_run_gives(name: str, tmp_path: Path) -> None:
    tracker = TRACKERS[name](tmp_path)
    (tmp_path / "kept.txt").write_text("kept")
    tracker.log({"idr_mean": 1.0, "eval/score": 2.0}, 0)
    tracker.log({}, 0)
    tracker.log({"idr_mean": float("nan")}, 1)
    tracker.artifact(tmp_path / "kept.txt")
    tracker.close()


def test_console_shows_one_line_with_the_chosen_metrics() -> None:
    screen = io.StringIO()
    ConsoleTracker(Console(file=screen, width=200)).log({"idr_mean": 0.25, "loss": 3.0}, 7)
    assert screen.getvalue() == "step    7  idr_mean 0.25\n"


def test_resumed_mlflow_run_holds_every_step_once(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    first = mlflow_tracker(tmp_path)
    for step in range(4):
        first.log({"reward_mean": float(step)}, step)
    first.log({"eval_score": 9.0}, 1)
    # Killed after step 3; the checkpoint was after step 1, so steps 2 and 3 come again.
    second = mlflow_tracker(tmp_path, run_id=first.run_id)
    for step in range(2, 6):
        second.log({"reward_mean": float(step)}, step)
    second.log({"eval_score": 10.0}, 3)
    (tmp_path / "dialogues.jsonl").write_text("{}\n")
    second.artifact(tmp_path / "dialogues.jsonl")
    second.close()
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    history = client.get_metric_history(first.run_id, "reward_mean")
    assert sorted((item.step, item.value) for item in history) == [(step, float(step)) for step in range(6)]
    assert [item.step for item in client.get_metric_history(first.run_id, "eval_score")] == [1, 3]
    run = client.get_run(first.run_id)
    assert run.data.params["part.119"] == "119"
    assert (run.data.tags["git"], run.data.tags["mlflow.note.content"]) == ("abc", "what the metrics mean")
    assert run.info.status == "FINISHED"
    assert [item.path for item in client.list_artifacts(first.run_id)] == ["dialogues.jsonl"]


def test_mlflow_run_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no run 0000"):
        mlflow_tracker(tmp_path, run_id="0000")
