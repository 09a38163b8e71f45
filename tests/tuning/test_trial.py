from __future__ import annotations

import math
from pathlib import Path

import pytest

from mica_ray.config import ConfigError
from mica_ray.credit import Grpo, Mica
from mica_ray.tuning.search import rounds
from mica_ray.tuning.space import Cell
from mica_ray.tuning.sweep import Sweep
from mica_ray.tuning.trial import check_same_config, curve, last_value, make_trials, scores, trial_id
from tests.tuning.finished_trials import finish

SWEEP = Sweep(name="try", question="?", space={"credit.alpha": (0.0, 1.0)}, seeds=(3, 4))


def test_folder_name_follows_from_cell_and_seed() -> None:
    assert trial_id(Cell({"credit.alpha": "0.5"}, {"credit.alpha": 0.5}), 2) == "alpha=0.5-seed2"


def test_label_that_no_folder_can_have_is_told_apart_by_a_digest() -> None:
    first = trial_id(Cell({"policy": "a/b"}, {"policy": "a/b"}), 0)
    second = trial_id(Cell({"policy": "a:b"}, {"policy": "a:b"}), 0)
    assert first != second
    assert first.startswith("policy=a_b-") and second.startswith("policy=a_b-")


def test_trials_of_a_seed_come_before_the_next_seed(tmp_path: Path) -> None:
    trials = make_trials(SWEEP, next(rounds(SWEEP)), tmp_path)
    assert [trial.id for trial in trials] == [
        "alpha=0-seed3", "alpha=1-seed3", "alpha=0-seed4", "alpha=1-seed4",
    ]  # fmt: skip
    assert [(trial.config.seed, trial.config.credit) for trial in trials[::3]] == [
        (3, Mica(alpha=0.0)),
        (4, Mica(alpha=1.0)),
    ]
    assert trials[0].config.out == tmp_path / "alpha=0-seed3"
    assert trials[0].config.name == "try"


def test_whole_object_and_a_key_of_it_may_both_be_swept(tmp_path: Path) -> None:
    sweep = Sweep(name="try", question="?", space={"credit.gamma": (0.5,), "credit": (Mica(alpha=1.0),)})
    trials = make_trials(sweep, next(rounds(sweep)), tmp_path)
    assert trials[0].config.credit == Mica(alpha=1.0, gamma=0.5)


@pytest.mark.parametrize(
    ("space", "complaint"),
    [
        ({"credit.alfa": (0.0,)}, "Unknown key credit.alfa. Did you mean alpha"),
        ({"credit.alpha": (2.0,)}, "alpha must be in"),
        ({"credit": (Grpo(),), "credit.alpha": (0.5,)}, "Unknown key credit.alpha"),
    ],
)
def test_cell_that_makes_no_config_is_one_line(
    space: dict[str, tuple[object, ...]], complaint: str, tmp_path: Path
) -> None:
    sweep = Sweep(name="try", question="?", space=space)
    with pytest.raises(ConfigError) as caught:
        make_trials(sweep, next(rounds(sweep)), tmp_path)
    assert complaint in str(caught.value)


def test_folder_with_another_config_is_refused(tmp_path: Path) -> None:
    trial, other = make_trials(SWEEP, next(rounds(SWEEP)), tmp_path)[:2]
    finish(trial, {"a": 1.0})
    check_same_config(trial)
    check_same_config(other)  # The folder does not exist yet.
    changed = Sweep(
        name="try", question="?", space={"credit.alpha": (0.0,), "credit.gamma": (0.5,)}, seeds=(3,)
    )
    moved = make_trials(changed, next(rounds(changed)), tmp_path)[0]
    moved.folder.path.parent.mkdir(exist_ok=True)
    trial.folder.path.rename(moved.folder.path)
    with pytest.raises(ConfigError, match=r"credit\.gamma=0\.85, but the sweep now has 0\.5"):
        check_same_config(moved)


def test_scores_are_read_by_scenario_or_from_the_last_step(tmp_path: Path) -> None:
    trial = make_trials(SWEEP, next(rounds(SWEEP)), tmp_path)[0]
    assert curve(trial.folder, "idr_mean") == {}
    assert math.isnan(last_value(trial.folder, "idr_mean"))
    finish(trial, {"a": 40.0, "b": 20.0}, idr_by_step=(0.5, 1.5))
    assert trial.is_finished
    assert scores(trial, "eval_epm_q", "epm_q") == {"a": 40.0, "b": 20.0}
    assert scores(trial, "idr_mean", None) == {"run": 1.5}
    assert curve(trial.folder, "idr_mean") == {0: 0.5, 1: 1.5}
