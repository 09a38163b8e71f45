"""Every tracker takes metrics by step and files, and survives a resume."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
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
    "console": lambda folder: ConsoleTracker(Console(file=io.StringIO()), num_steps=2),
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


class Clock:
    """A clock that the test sets."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def console_lines(
    steps: Sequence[tuple[int, float]], metrics: Mapping[str, float], *, num_steps: int, width: int = 80
) -> list[str]:
    """The lines of one process that ends each (step, at so many seconds)."""
    screen, clock = io.StringIO(), Clock()
    tracker = ConsoleTracker(Console(file=screen, width=width), num_steps=num_steps, clock=clock)
    for step, seconds in steps:
        clock.seconds = seconds
        tracker.log(metrics, step)
    return screen.getvalue().splitlines()


STEP = {
    "idr_mean": 0.63,
    "return_mean": 5.4,
    "success_fraction": 0.6875,
    "grad_norm": 0.4382,
    "logprob_difference_max": 1.2e-5,
    "loss": 3.0,
}


def test_console_shows_one_line_with_the_chosen_metrics_and_the_time_left() -> None:
    # Steps 10 and 11 take 20 s together since the line of step 9: 10 s each, and 10 steps are left.
    lines = console_lines([(9, 0.0), (10, 5.0), (11, 20.0)], STEP, num_steps=22)
    assert lines[2] == "step 12/22  IDR 0.63  return 5.40  success 69%  grad 0.44  diff 1e-5  left 1m40s"
    assert len(lines) == 3


def test_time_left_is_absent_in_the_first_and_the_last_step() -> None:
    first, second, last = console_lines([(0, 30.0), (1, 40.0), (2, 50.0)], STEP, num_steps=3)
    assert "left" not in first
    assert second.endswith("left 10s")
    assert "left" not in last


def test_steps_before_a_resume_do_not_count_for_the_time_left() -> None:
    # The resumed process starts at step 6 of 10 and needs 100 s for step 7: two more steps take 200 s.
    first, second = console_lines([(6, 7.0), (7, 107.0)], STEP, num_steps=10)
    assert "left" not in first
    assert second.endswith("left 3m20s")


@pytest.mark.parametrize(
    "values",
    [
        (-12.34, -123.4, 1.0, 12345.6, 9.87),
        (-1e-12, -98765.4, 0.0, 1e-9, 1e-300),
        (math.nan, math.nan, math.nan, math.nan, math.nan),
        (math.inf, -math.inf, math.nan, math.inf, math.inf),
    ],
)
@pytest.mark.parametrize(("num_steps", "seconds"), [(22, 10.0), (9999, 100_000.0)])
def test_console_line_fits_80_columns(values: Sequence[float], num_steps: int, seconds: float) -> None:
    metrics = dict(zip(STEP, values, strict=False))
    lines = console_lines([(10, 0.0), (11, seconds)], metrics, num_steps=num_steps)
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith(f"step 12/{num_steps} ")
    assert " IDR " in lines[1] and " grad " in lines[1]
    assert " left " in lines[1]


def test_narrow_console_drops_the_last_fields_and_keeps_the_time_left() -> None:
    lines = console_lines([(0, 0.0), (1, 60.0)], STEP, num_steps=4, width=40)
    assert lines[1] == "step 2/4 IDR 0.63 return 5.40 left 2m00s"


def test_console_prints_nothing_for_an_evaluation() -> None:
    assert console_lines([(3, 1.0)], {"eval_epm_q": 40.0}, num_steps=5) == []


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
    with pytest.raises(ValueError, match="cannot start a run"):
        start_run("http://127.0.0.1:9", experiment="tests", run_name="one", artifacts=tmp_path)
