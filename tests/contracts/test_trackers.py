"""Every tracker takes metrics by step and files, and survives a resume."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from mica_ray.tracking.mlflow_store import connect, start_run
from mica_ray.tracking.mlflow_tracker import MlflowTracker, TrackedDataset
from mica_ray.tracking.tracker import ConsoleTracker, JsonlTracker, Tracker, Trackers


def store(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def mlflow_tracker(folder: Path, run_id: str | None = None) -> MlflowTracker:
    known = run_id or start_run(
        store(folder),
        experiment="tests",
        run_name="one",
        artifacts=folder / "artifacts",
        tags={"git": "abc"},
        description="what the metrics mean",
    )
    tracker = MlflowTracker(store(folder), known, folder / "outbox.jsonl")
    if tracker.is_new:
        tracker.params({f"part.{number}": str(number) for number in range(120)})
    return tracker


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
    first = mlflow_tracker(tmp_path)
    for step in range(4):
        first.log({"reward_mean": float(step)}, step)
    first.log({"eval_score": 9.0}, 1)
    first.flush()
    # Killed after step 3; the checkpoint was after step 1, so steps 2 and 3 come again. And the mark of what
    # was sent is lost, so that all of it is sent again.
    (tmp_path / "outbox.jsonl.sent").unlink()
    second = mlflow_tracker(tmp_path, run_id=first.run_id)
    second.go_on()
    for step in range(2, 6):
        second.log({"reward_mean": float(step) + 0.5 * (step < 4)}, step)
    second.log({"eval_score": 10.0}, 3)
    (tmp_path / "dialogues.jsonl").write_text("{}\n")
    second.artifact(tmp_path / "dialogues.jsonl")
    (tmp_path / "kept" / "policy" / "deep").mkdir(parents=True)
    (tmp_path / "kept" / "policy" / "deep" / "file").write_text("x")
    second.artifact(tmp_path / "kept" / "policy")
    second.close()
    client = connect(store(tmp_path))
    history = client.get_metric_history(first.run_id, "reward_mean")
    assert sorted((item.step, item.value) for item in history) == [(step, float(step)) for step in range(6)]
    assert [item.step for item in client.get_metric_history(first.run_id, "eval_score")] == [1, 3]
    run = client.get_run(first.run_id)
    assert run.data.params["part.119"] == "119"
    assert (run.data.tags["git"], run.data.tags["mlflow.note.content"]) == ("abc", "what the metrics mean")
    assert run.info.status == "FINISHED"
    assert [item.path for item in client.list_artifacts(first.run_id)] == ["dialogues.jsonl", "policy"]
    assert [item.path for item in client.list_artifacts(first.run_id, "policy/deep")] == ["policy/deep/file"]


def test_mlflow_says_how_a_run_ended_and_that_it_goes_on(tmp_path: Path) -> None:
    first = mlflow_tracker(tmp_path)
    client = connect(store(tmp_path))

    def status() -> str:
        return str(client.get_run(first.run_id).info.status)

    first.close("failed")
    assert status() == "FAILED"
    second = mlflow_tracker(tmp_path, run_id=first.run_id)
    second.go_on()
    second.flush()
    assert status() == "RUNNING"
    mlflow_tracker(tmp_path, run_id=first.run_id).close("stopped")
    assert status() == "KILLED"


def test_tag_given_twice_has_its_last_text(tmp_path: Path) -> None:
    tracker = mlflow_tracker(tmp_path)
    tracker.tags({"answer": "one", "git": "abc"})
    tracker.tags({"answer": "two"})
    tracker.close()
    tags = connect(store(tmp_path)).get_run(tracker.run_id).data.tags
    assert (tags["answer"], tags["git"]) == ("two", "abc")


def test_dataset_is_kept_with_its_digest_and_use(tmp_path: Path) -> None:
    tracker = mlflow_tracker(tmp_path)
    tracker.dataset(TrackedDataset("stories-train", "ab12", "module:STORIES", "training"))
    tracker.close()
    inputs = connect(store(tmp_path)).get_run(tracker.run_id).inputs
    assert inputs is not None
    (kept,) = inputs.dataset_inputs
    assert (kept.dataset.name, kept.dataset.digest) == ("stories-train", "ab12")
    assert "module:STORIES" in kept.dataset.source
    assert [(tag.key, tag.value) for tag in kept.tags] == [("mlflow.data.context", "training")]


def test_run_is_nested_under_its_parent(tmp_path: Path) -> None:
    parent = mlflow_tracker(tmp_path)
    child = start_run(
        store(tmp_path), experiment="tests", run_name="trial", artifacts=tmp_path, parent=parent.run_id
    )
    client = connect(store(tmp_path))
    assert client.get_run(child).data.tags["mlflow.parentRunId"] == parent.run_id
    assert client.get_run(child).info.experiment_id == client.get_run(parent.run_id).info.experiment_id


def test_metric_that_mlflow_refuses_keeps_none_back(tmp_path: Path) -> None:
    tracker = mlflow_tracker(tmp_path)
    tracker.log({"fine": 1.0}, 0)
    tracker.log({"what?!": 2.0}, 1)
    tracker.log({"fine": 3.0}, 2)
    tracker.close()
    history = connect(store(tmp_path)).get_metric_history(tracker.run_id, "fine")
    assert [(item.step, item.value) for item in history] == [(0, 1.0), (2, 3.0)]


def test_mlflow_run_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no run 0000"):
        mlflow_tracker(tmp_path, run_id="0000")


def test_server_that_is_not_there_is_named_before_a_run_begins(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot begin a run"):
        start_run("http://127.0.0.1:9", experiment="tests", run_name="one", artifacts=tmp_path)
