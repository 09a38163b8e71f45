"""The gate of `mica promote`: which line fails, and what MLflow contains afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from mica_ray.cli import main
from mica_ray.config.run_config import RunConfig
from mica_ray.evaluation.evaluate import Evaluation, ScenarioRow, summary_of_rows
from mica_ray.files import write_json
from mica_ray.runs.folder import RunFolder
from mica_ray.serving.promotion import Benchmark, GateLine, benchmark_lines, is_open, score_line, split_line


def evaluation(*scores: float) -> Evaluation:
    rows = tuple(
        ScenarioRow(
            f"case-{i}", "moving", dominant_axis="A", epm_q=score, passes=1, samples=1, idr=0.5, num_turns=4
        )
        for i, score in enumerate(scores)
    )  # fmt: skip
    return summary_of_rows(rows, num_failed_dialogues=0, num_failed_judgements=0, seed=0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Create an MLflow store with one run, to be copied: creating one takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    return path, client.create_run(client.create_experiment("mica")).info.run_id


def finished_run(
    path: Path,
    store: tuple[Path, str] | None = None,
    *,
    contaminated: bool = False,
    after: Evaluation | None = None,
) -> RunFolder:
    """Create the folder of a finished run of eight cases, with 20 points before and 30 after."""
    folder = RunFolder.create(RunConfig(), path)
    policy = path / "checkpoints" / "step" / "policy"
    policy.mkdir(parents=True)
    (policy / "config.json").write_text("{}")
    if store is not None:
        shutil.copy(store[0], folder.path / "mlflow.db")
        folder.write_tracking_run(store[1])
    folder.write_evaluation("before", evaluation(*[20.0] * 8))
    folder.write_evaluation("after", after or evaluation(*[30.0] * 8))
    summary = {"policy": str(policy), "tracking_uri": folder.tracking_uri, "contaminated": contaminated}
    scores = {name: {"epm_q": {"estimate": value}} for name, value in (("after", 30.0), ("difference", 10.0))}
    write_json(folder.summary, {**summary, **scores})
    return folder


def promote(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["promote", *(str(argument) for argument in arguments)])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_a_better_run_gets_its_alias_with_the_reasons(
    tmp_path: Path, store: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_run(tmp_path / "run", store)
    command = (folder.path, "--against", "before", "--name", "support", "--json", tmp_path / "gate.json")
    assert promote(*command) == 0
    assert "models:/support@champion is version 1" in capsys.readouterr().out
    record = json.loads((tmp_path / "gate.json").read_text())
    assert record["passed"] and record["model"]["version"] == "1"
    client = MlflowClient(tracking_uri=folder.tracking_uri)
    version = client.get_model_version_by_alias("support", "champion")
    assert version.tags["promotion.against"] == "before"
    # Every case gains 10 points, so the interval has no width.
    assert version.tags["promotion.EPM-Q"].startswith("passed: 10.0 [10.0, 10.0]")
    assert version.tags["promotion.benchmarks"].startswith("not configured")
    assert (version.tags["epm_q"], version.tags["contaminated"]) == ("30.00", "false")
    assert Path(str(version.source).removeprefix("file://"), "config.json").is_file()
    assert promote(*command) == 0  # The same policy gets no second version.
    assert client.get_model_version_by_alias("support", "champion").version == version.version


def test_a_run_that_is_no_better_is_not_promoted(
    tmp_path: Path, store: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    # Half the cases gain 5 points and half lose 5: the interval spans 0.
    folder = finished_run(tmp_path / "run", store, contaminated=True, after=evaluation(*[25.0, 15.0] * 4))
    assert promote(folder.path, "--against", "before", "--name", "support") == 1
    assert "not promoted: EPM-Q, split guard" in capsys.readouterr().out
    assert MlflowClient(tracking_uri=folder.tracking_uri).search_registered_models() == []


def test_a_care_check_that_misses_keeps_the_gate_shut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_run(tmp_path / "run")
    messages = tmp_path / "messages.jsonl"
    missed = {"text": "the sky is blue", "locale": "en", "kind": "medical", "hard": False}
    messages.write_text(json.dumps(missed) + "\n")
    assert promote(folder.path, "--against", "before", "--care-messages", messages) == 1
    assert "not promoted: care" in capsys.readouterr().out


def test_other_scenarios_cannot_be_compared() -> None:
    line = score_line(evaluation(1.0, 2.0), evaluation(1.0, 2.0, 3.0), seed=0)
    assert line.outcome == "failed"
    assert "case-2" in line.reason


@pytest.mark.parametrize(("run", "outcome"), [(49.0, "passed"), (48.9, "failed"), (60.0, "passed")])
def test_a_benchmark_may_fall_by_its_margin(tmp_path: Path, run: float, outcome: str) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"overall": {"score": run}}))
    (tmp_path / "base.json").write_text(json.dumps({"overall": {"score": 50.0}}))
    benchmark = Benchmark(
        "eq", tmp_path / "run.json", tmp_path / "base.json", margin=1.0, score="overall.score"
    )
    assert [line.outcome for line in benchmark_lines([benchmark])] == [outcome]


def test_a_benchmark_without_its_number_fails(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"score": null}')
    (line,) = benchmark_lines([Benchmark("eq", tmp_path / "run.json", tmp_path / "none.json", margin=1.0)])
    assert (line.outcome, "no number at score" in line.reason) == ("failed", True)


def test_a_condition_that_is_not_configured_does_not_close_the_gate() -> None:
    assert is_open([*benchmark_lines(()), split_line(False)])
    assert not is_open([GateLine("EPM-Q", "passed", ""), split_line(None)])


@pytest.mark.parametrize("base", ["nowhere", "file.json"])
def test_an_invalid_base_is_rejected_in_one_line(
    tmp_path: Path, base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.json").write_text("[]")
    folder = finished_run(tmp_path / "run")
    assert promote(folder.path, "--against", tmp_path / base) == 2
    assert base in capsys.readouterr().err
