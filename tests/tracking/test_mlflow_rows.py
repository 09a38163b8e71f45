"""One bad row costs one row, on a real sqlite store; deleted experiments and runs get the right remedy."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mica_ray.tracking.mlflow_rows import DeletedError, check_active, plain_value
from mica_ray.tracking.mlflow_store import connect, start_run
from mica_ray.tracking.mlflow_tracker import MlflowTracker
from mica_ray.valid_text import valid_text

pytestmark = [pytest.mark.slow]

GOOD = {f"good.{number}": str(number) for number in range(40)}
ODD_NAMES = (
    "a?b",
    "a*b",
    "",
    "..",
    "/a",
    "a//b",
    "./a",
    "x" * 251,
    "a;b",
    "a=b",
    "a\x00b",
    "a\u2028b",
    "名/../x",
    "\ud83d",
)
LONG = "v" * 7000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


def new_run(store: str, folder: Path, experiment: str = "rows") -> str:
    return start_run(store, experiment=experiment, run_name="one", artifacts=folder / "artifacts")


def tracked(store: str, run_id: str, folder: Path) -> MlflowTracker:
    return MlflowTracker(store, run_id, folder / "outbox.jsonl", drain_seconds=60)


def test_odd_parameters_lose_only_themselves(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = new_run(store, tmp_path)
    tracker = tracked(store, run_id, tmp_path)
    values = {
        "nul": "a\x00b",
        "half": "a\ud83d",
        "lines": "a\u2028b\x85",
        "none": "None",
        "nan": "nan",
        "empty": "",
    }
    odd = dict.fromkeys(ODD_NAMES, "1")
    rows = [*GOOD.items(), *odd.items(), *values.items()]
    tracker.params(dict(sorted(rows, key=lambda row: hash(row[0]))))
    tracker.params(GOOD | {"good.0": "changed"})  # a duplicate with another value
    assert tracker.flush() == 0
    stored = dict(connect(store).get_run(run_id).data.params)
    assert {name: stored.get(name) for name in GOOD} == GOOD
    assert stored["nul"] == "a\ufffdb" and stored["half"] == "a\ufffd" and stored["lines"] == "a\u2028b\x85"
    refused = [message for message in caplog.messages if "MLflow refuses params" in message]
    assert len(refused) == len({message.split(":")[0] for message in refused})  # once each
    assert any("'a?b'" in message for message in refused) and any(
        "'good.0'" in message for message in refused
    )
    # Nothing is lost without a notice.
    assert len(refused) - 1 == len(odd) - sum(valid_text(name) in stored for name in odd)


def test_odd_tags_and_metrics_lose_only_themselves(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = new_run(store, tmp_path)
    tracker = tracked(store, run_id, tmp_path)
    tracker.tags(GOOD | {"long": LONG * 2, "x" * 300: "1", "nul": "\x00", "": "1"})
    for step in range(3):
        metrics = {"loss": float(step), "nan": math.nan, "inf": math.inf, "a?b": 1.0, "x" * 300: 1.0, "": 2.0}
        tracker.log(metrics, step)
    tracker.close()
    client = connect(store)
    data = client.get_run(run_id).data
    assert {name: data.tags.get(name) for name in GOOD} == GOOD
    assert data.tags["nul"] == "\ufffd"
    assert [row.value for row in client.get_metric_history(run_id, "loss")] == [0.0, 1.0, 2.0]
    assert {"nan", "inf"} <= data.metrics.keys()
    assert client.get_run(run_id).info.status == "FINISHED"
    # Refused in three steps, reported once.
    assert sum("'a?b'" in message for message in caplog.messages) == 1


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 0x10FFFF), max_size=8).map(lambda points: "".join(map(chr, points))))
@example("\ud83d")
@example("\x00")
@example("\u2028\u2029\x85\r\n")
def test_any_text_reaches_mlflow_or_is_refused_alone(
    store: str, tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    run_id = new_run(store, folder)
    tracker = tracked(store, run_id, folder)
    file = folder / "dialogues.jsonl"
    file.write_bytes(json.dumps({"text": text}).encode())
    tracker.params({text: text, "value": text, "good": "1"})
    tracker.tags({text: text, "value": text, "good": "1"})
    tracker.log({text: 1.0, "good": 2.0}, 0)
    tracker.artifact(file)
    tracker.close()
    assert tracker.flush() == 0
    data = connect(store).get_run(run_id).data
    assert (data.params["good"], data.tags["good"], data.metrics["good"]) == ("1", "1", 2.0)
    assert data.params["value"] == data.tags["value"] == plain_value(text)


def test_deleted_experiment_is_restored_not_started(store: str, tmp_path: Path) -> None:
    run_id = new_run(store, tmp_path, "gone")
    client = connect(store)
    experiment_id = client.get_run(run_id).info.experiment_id
    client.delete_experiment(experiment_id)
    for act in (lambda: new_run(store, tmp_path, "gone"), lambda: tracked(store, run_id, tmp_path)):
        with pytest.raises(ValueError, match=r"is deleted\. Restore it with `mlflow") as caught:
            act()
        assert "Start the server" not in str(caught.value)
    client.restore_experiment(experiment_id)
    client.get_run(run_id)
    assert new_run(store, tmp_path, "gone") != run_id


def test_run_deleted_on_the_way_keeps_its_records_until_it_is_restored(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = new_run(store, tmp_path)
    client = connect(store)
    tracker = MlflowTracker(store, run_id, tmp_path / "outbox.jsonl", drain_seconds=2)
    client.delete_run(run_id)
    with pytest.raises(DeletedError, match=f"mlflow runs restore --run-id {run_id}"):
        check_active(client, run_id)
    tracker.log({"loss": 1.0}, 0)
    assert tracker.flush() == 1
    assert "Restore it with `mlflow runs restore" in caplog.text
    client.restore_run(run_id)
    assert tracked(store, run_id, tmp_path).flush() == 0
    assert client.get_run(run_id).data.metrics["loss"] == 1.0


@pytest.mark.parametrize("name", ["", "\x00", "\ud83d", "a\u2028b"])
def test_odd_experiment_name_is_one_clear_error_or_works(store: str, tmp_path: Path, name: str) -> None:
    try:
        assert new_run(store, tmp_path, name)
    except ValueError as error:
        assert "Set another name" in str(error)


def test_unreachable_store_is_started(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Start the server"):
        new_run(f"sqlite:////proc/no/such/{tmp_path.name}.db", tmp_path)


def test_no_notice_for_good_rows(store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = tracked(store, new_run(store, tmp_path), tmp_path)
    with caplog.at_level(logging.WARNING, "mica_ray"):
        tracker.params(GOOD)
        tracker.close()
    assert [record for record in caplog.records if record.name.startswith("mica_ray")] == []
