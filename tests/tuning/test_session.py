from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mica_ray.cli import main
from mica_ray.config import ConfigError
from mica_ray.reporting.drawing.run_curves import shared_steps
from mica_ray.tuning.figures import learning_curves, metric_by_cell
from mica_ray.tuning.search import rounds
from mica_ray.tuning.session import check_sweep, run_session, with_base
from mica_ray.tuning.space import Span
from mica_ray.tuning.sweep import Optuna, Sweep, SweepBudget
from mica_ray.tuning.sweep_folder import SweepFolder
from mica_ray.tuning.trial import Trial, make_trials
from tests.tuning.finished_trials import finish

SWEEP = Sweep(
    name="try", question="Which alpha?", space={"credit.alpha": (0.0, 0.5, 1.0)}, seeds=(0, 1), inline=True
)
# By cell and seed, two scenarios each: the middle cell is far better, the others are similar.
EPM_Q: Mapping[str, Mapping[int, tuple[float, float]]] = {
    "alpha=0": {0: (10.0, 20.0), 1: (12.0, 18.0)},
    "alpha=0.5": {0: (60.0, 70.0), 1: (62.0, 68.0)},
    "alpha=1": {0: (11.0, 19.0), 1: (13.0, 21.0)},
}


def played(sweep: Sweep, folder: SweepFolder) -> tuple[Trial, ...]:
    """Finish every trial of the first round without training."""
    trials = make_trials(sweep, next(rounds(sweep)), folder.trials.absolute())
    for trial in trials:
        first, second = EPM_Q[trial.cell.name][trial.seed]
        finish(trial, {"a": first, "b": second}, idr_by_step=(0.0, first / 10))
    folder.book.write_text("{}")
    return trials


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "sweep")


def test_finished_trials_are_read_and_not_run(folder: SweepFolder) -> None:
    # Works without Ray because no trial is left to run.
    trials = played(SWEEP, folder)
    changed = [trial.folder.summary.stat().st_mtime_ns for trial in trials]
    outcome = run_session(SWEEP, folder, resumes=True)
    assert [trial.folder.summary.stat().st_mtime_ns for trial in trials] == changed
    assert [entry.status for entry in outcome.entries] == ["finished"] * 6
    assert outcome.reference == "alpha=0.5"
    # All four scores of a cell: k = floor(4 / 4) = 1 at either end is left out, (62 + 68) / 2 = 65.
    assert outcome.rows[1].middle.estimate == 65.0
    assert outcome.rows[0].gain is not None
    # Paired: -50 -50 -50 -50.
    assert outcome.rows[0].gain.estimate == -50.0
    assert outcome.rows[1].gain is None
    book = json.loads(folder.book.read_text())
    assert book["trials"]["alpha=0-seed1"]["status"] == "finished"
    assert book["outcome"] == json.loads(json.dumps(outcome.record()))


def test_answer_is_a_sentence_with_its_interval(folder: SweepFolder) -> None:
    played(SWEEP, folder)
    answer = run_session(replace(SWEEP, reference="alpha=0"), folder, resumes=True).answer
    assert answer.startswith(
        "Of 3 cells, alpha=0.5 has the highest interquartile mean. "
        "alpha=0.5 scores higher than alpha=0 in eval_epm_q: +50"
    )
    assert "95 % interval" in answer


def test_cells_that_cannot_be_told_apart_are_an_answer(folder: SweepFolder) -> None:
    pair = replace(SWEEP, space={"credit.alpha": (0.0, 1.0)}, reference="alpha=0")
    played(pair, folder)
    answer = run_session(pair, folder, resumes=True).answer
    # alpha=1 minus alpha=0: +1 -1 +1 +3.
    assert answer.startswith(
        "Of 2 cells, alpha=1 has the highest interquartile mean. alpha=1 and alpha=0 are not distinguishable"
    )


def test_less_can_be_better(folder: SweepFolder) -> None:
    played(SWEEP, folder)
    outcome = run_session(replace(SWEEP, mode="min"), folder, resumes=True)
    assert outcome.answer.startswith("Of 3 cells, alpha=0 has the lowest interquartile mean. ")


def test_budget_of_trials_cuts_the_seeds_of_all_cells_evenly(folder: SweepFolder) -> None:
    played(SWEEP, folder)
    outcome = run_session(replace(SWEEP, budget=SweepBudget(trials=3)), folder, resumes=True)
    assert [entry.trial.id for entry in outcome.entries] == [
        "alpha=0-seed0", "alpha=0.5-seed0", "alpha=1-seed0",
    ]  # fmt: skip
    assert outcome.unplayed == "budget.trials=3 is used up"


def test_used_up_hours_count_those_of_earlier_sessions(folder: SweepFolder) -> None:
    played(SWEEP, folder)[-1].folder.summary.unlink()
    folder.book.write_text(json.dumps({"seconds": 7200.0}))
    outcome = run_session(replace(SWEEP, budget=SweepBudget(hours=2)), folder, resumes=True)
    assert outcome.unplayed == "budget.hours=2 is used up"
    assert [entry.status for entry in outcome.entries] == ["finished"] * 5 + ["waiting"]


def test_optuna_is_asked_again_for_what_was_played(folder: SweepFolder) -> None:
    search = Optuna(4, round_size=2)
    sweep = Sweep(
        name="try", question="?", space={"credit.alpha": Span(0, 1)}, search=search, seeds=(0,), inline=True
    )
    proposing = rounds(sweep)
    for cells in (next(proposing), proposing.send(dict.fromkeys(_names(sweep), 30.0))):
        for trial in make_trials(sweep, cells, folder.trials.absolute()):
            finish(trial, {"a": 30.0})
    folder.book.write_text("{}")
    outcome = run_session(sweep, folder, resumes=True)
    assert [entry.status for entry in outcome.entries] == ["finished"] * 4


def _names(sweep: Sweep) -> list[str]:
    return [cell.name for cell in next(rounds(sweep))]


def test_cell_without_a_finished_trial_is_in_the_table_without_a_score(folder: SweepFolder) -> None:
    trials = played(SWEEP, folder)
    for trial in trials:
        if trial.cell.name == "alpha=0.5":
            trial.folder.summary.unlink()
    folder.book.write_text(json.dumps({"seconds": 7200.0}))
    outcome = run_session(replace(SWEEP, budget=SweepBudget(hours=2)), folder, resumes=True)
    record = outcome.record()["cells"]
    assert isinstance(record, dict)
    assert record["alpha=0.5"]["trials"] == {"waiting": 2}
    assert outcome.answer.startswith("Of 2 cells, alpha=1 has the highest ")


def test_figures_show_every_cell(folder: SweepFolder) -> None:
    played(SWEEP, folder)
    outcome = run_session(SWEEP, folder, resumes=True)
    bars, curves = metric_by_cell(SWEEP, outcome), learning_curves(SWEEP, outcome)
    assert bars is not None and curves is not None
    labels = [label.get_text() for label in bars.figure.axes[0].get_yticklabels()]
    assert labels == ["alpha=0", "alpha=0.5", "alpha=1"]
    # Seeds 0 and 1 of alpha=0 end at 10 / 10 and 12 / 10: 1.1 in the mean.
    assert list(curves.figure.axes[0].lines[0].get_ydata()) == [0.0, 1.1]  # type: ignore[arg-type]


def test_curve_is_drawn_where_every_begun_trial_has_the_step() -> None:
    steps, values = shared_steps([{0: 1.0, 1: 2.0}, {0: 3.0}, {}])
    assert steps == [0]
    assert values.tolist() == [[1.0], [3.0]]


def test_sweep_is_resumed_only_when_asked(folder: SweepFolder) -> None:
    with pytest.raises(ConfigError, match="contains no sweep to resume"):
        check_sweep(SWEEP, folder, resumes=True)
    played(SWEEP, folder)
    with pytest.raises(ConfigError, match="Resume it with --resume"):
        check_sweep(SWEEP, folder, resumes=False)


def test_key_that_the_sweep_varies_cannot_be_set() -> None:
    assert with_base(SWEEP, ["loop.num_steps=3"]).base.loop.num_steps == 3
    with pytest.raises(ConfigError, match=r"the sweep sets credit\.alpha"):
        with_base(SWEEP, ["credit.alpha=0.1"])


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ("space={}", "space is empty"),
        ("space={'credit.alfa': (1.0,)}", "Unknown key credit.alfa. Did you mean alpha"),
        (
            "space={'credit.alpha': (1.0,)}, metric='eval_epm'",
            "no run logs 'eval_epm'. Did you mean eval_epm_q",
        ),
        ("space={'ray_learner.gpus_per_worker': (64.0,)}, inline=False", "needs 64 GPUs"),
        (
            "space={'credit.alpha': (1.0,)}, reference='alpha=2'",
            "no cell is named 'alpha=2'. Did you mean alpha=1",
        ),
    ],
)
def test_bad_sweep_fails_before_its_first_trial_in_one_line(
    fields: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.py"
    file.write_text(
        f"from mica_ray.tuning.sweep import Sweep\nSWEEP = Sweep(name='bad', question='?', {fields})\n"
    )
    with pytest.raises(SystemExit) as caught:
        main(["sweep", str(file), "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert complaint in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_dry_run_names_cells_and_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, plan = tmp_path / "good.py", tmp_path / "plan.json"
    file.write_text(
        "from mica_ray.tuning.sweep import Sweep\n"
        "SWEEP = Sweep(name='good', question='Which?', space={'credit.alpha': (0.0, 1.0)}, inline=True)\n"
    )
    with pytest.raises(SystemExit) as caught:
        main(["sweep", str(file), "--dry-run", "--json", str(plan), "--out", str(tmp_path / "out")])
    assert caught.value.code == 0
    lines = json.loads(plan.read_text())["plan"]
    assert lines["cells"] == "alpha=0; alpha=1"
    assert lines["trials"].startswith("2 cells x 3 seeds")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    [
        f"{file}{variant}"
        for file in (
            *("ablate_advantage.py", "ablate_reward.py", "ablate_gamma.py", "ablate_group_size.py"),
            "baselines.py",
        )
        for variant in ("", ":qwen3_8b")
    ],
)  # fmt: skip
def test_sweeps_of_the_experiments_make_their_trials(name: str, tmp_path: Path) -> None:
    from mica_ray.cli.sweep import read_sweep

    sweep = read_sweep(str(Path(__file__).parents[2] / "experiments" / name))
    cells = next(rounds(sweep))
    trials = make_trials(sweep, cells, tmp_path)
    assert len({trial.id for trial in trials}) == len(cells) * len(sweep.seeds)
    assert sweep.reference is None or sweep.reference in {cell.name for cell in cells}
