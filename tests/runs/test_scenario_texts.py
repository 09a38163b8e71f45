"""A resume that would compare different evaluations is refused; changed texts are reported."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.scenario_texts import ScenarioTexts, check_resumed
from mica_ray.types import Scenario
from tests.runs.run_folders import run_folder

SCENARIO = EMOTIONAL_SUPPORT.scenarios[0]
TRAINING = tuple(replace(SCENARIO, id=f"train-{name}", opening=name) for name in "ab")
EVALUATION = tuple(replace(SCENARIO, id=name, opening=name) for name in "abc")


def started(
    path: Path, *settings: str, measured: bool = True, recorded: bool = True
) -> tuple[RunFolder, RunConfig]:
    """Write a run that evaluates a, b and c; `measured`: it has done so once."""
    config = override(RunConfig(), settings)
    folder = RunFolder(run_folder(path, config=config, before=[1, 2, 3], after=None))
    if not measured:
        (path / "evaluation_before.json").unlink()
    if recorded:
        ScenarioTexts.of(config, TRAINING, EVALUATION).write(folder)
    return folder, config


def reworded(scenarios: Sequence[Scenario], name: str, **changes: object) -> tuple[Scenario, ...]:
    return tuple(replace(item, **changes) if item.id == name else item for item in scenarios)


def test_unchanged_run_resumes_without_a_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, config = started(tmp_path / "run")
    check_resumed(folder, ScenarioTexts.of(config, TRAINING, EVALUATION))
    # A longer run evaluates the same texts.
    check_resumed(folder, ScenarioTexts.of(override(config, ["loop.num_steps=99"]), TRAINING, EVALUATION))
    assert caplog.messages == []


@pytest.mark.parametrize(
    "changes",
    [
        {"opening": "b!"}, {"persona": "Another."}, {"stages": ("Only one.",)}, {"topic": "rain"},
        {"language": "zh"}, {"initial_state": (-1.0, 0.0, 0.0)}, {"category": "x"}, {"dominant_axis": "P"},
        {"difficulty": "hard"}, {"priorities": ("low", "high", "mid")},
    ],
)  # fmt: skip
def test_other_texts_of_an_evaluated_scenario_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    folder, config = started(tmp_path / "run")
    with pytest.raises(ConfigError, match="scenario b has other texts"):
        check_resumed(folder, ScenarioTexts.of(config, TRAINING, reworded(EVALUATION, "b", **changes)))


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize(
    ("setting", "scenarios", "problem"),
    [
        ("evaluation.max_scenarios=2", EVALUATION, "scenario c is missing now"),
        ("evaluation.max_scenarios=1", EVALUATION, "scenario b is missing now, scenario c is missing now"),
        ("seed=1", (*EVALUATION, replace(SCENARIO, id="d")), "scenario d is new"),
        ("seed=1", (), "scenario a is missing now"),
        ("evaluation.samples=7", EVALUATION, "evaluation.samples was 3 and is now 7"),
        ("evaluation.seed=7", EVALUATION, "evaluation.seed was 20000 and is now 7"),
        ("evaluation.temperature=0.5", EVALUATION, "evaluation.temperature was 0.7 and is now 0.5"),
    ],
)
def test_other_evaluation_is_refused_before_anything_starts(
    tmp_path: Path, setting: str, scenarios: tuple[Scenario, ...], problem: str, recorded: bool
) -> None:
    folder, config = started(tmp_path / "run", recorded=recorded)
    with pytest.raises(ConfigError, match=problem) as caught:
        check_resumed(folder, ScenarioTexts.of(override(config, [setting]), TRAINING, scenarios))
    assert str(folder.path) in str(caught.value)


def test_larger_limit_than_the_split_changes_nothing(tmp_path: Path) -> None:
    folder, config = started(tmp_path / "run", "evaluation.max_scenarios=3")
    for limit in ("3", "4", "null"):
        now = override(config, [f"evaluation.max_scenarios={limit}"])
        check_resumed(folder, ScenarioTexts.of(now, TRAINING, EVALUATION))


def test_everything_may_change_before_the_first_evaluation(tmp_path: Path) -> None:
    folder, config = started(tmp_path / "run", measured=False)
    now = override(config, ["evaluation.max_scenarios=1", "evaluation.samples=3"])
    check_resumed(folder, ScenarioTexts.of(now, TRAINING, reworded(EVALUATION, "a", opening="!")))


def test_other_texts_in_training_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, config = started(tmp_path / "run")
    check_resumed(folder, ScenarioTexts.of(config, reworded(TRAINING, "train-b", opening="!"), EVALUATION))
    (notice,) = caplog.messages
    assert "texts of 1 training scenarios have changed: train-b." in notice


def test_run_without_digests_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, config = started(tmp_path / "run", recorded=False)
    with caplog.at_level(logging.WARNING):
        check_resumed(folder, ScenarioTexts.of(config, TRAINING, reworded(EVALUATION, "a", opening="!")))
    (notice,) = caplog.messages
    assert "recorded no digests" in notice


def spoiled_by(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("{"),
        spoiled_by(lambda record: record.pop("settings")),
        spoiled_by(lambda record: record.update(evaluation=3)),
        spoiled_by(lambda record: record.update(training=["a"])),
    ],
)
def test_spoiled_record_is_one_clear_error(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    folder, config = started(tmp_path / "run")
    spoil(folder.scenarios)
    with pytest.raises(ConfigError, match=r"scenarios\.json"):
        check_resumed(folder, ScenarioTexts.of(config, TRAINING, EVALUATION))


def test_summary_of_an_earlier_end_is_set_aside(tmp_path: Path) -> None:
    folder = RunFolder(run_folder(tmp_path / "run", config=RunConfig(), before=[1], after=[2], usd=3.0))
    folder.set_ending_aside()
    assert folder.read_summary() is None
    assert folder.read_evaluation("after", seed=0) is None
    assert (
        json.loads((folder.path / "summary_before_resume.json").read_text())["costs"]["judge"]["usd"] == 3.0
    )
    folder.set_ending_aside()
    assert (folder.path / "evaluation_after_before_resume.json").exists()
