"""`mica sweep`: the trials as they run, then the table by cell, the answer and the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mica_ray.cli.progress import StageBars
from mica_ray.cli.trial_board import TrialBoard, show_time
from mica_ray.config.references import ConfigError, resolve
from mica_ray.files import write_json
from mica_ray.launch.plan import Plan
from mica_ray.runs.mlflow_run import sweep_store
from mica_ray.tuning.session import check_sweep, make_policies, run_session, with_base
from mica_ray.tuning.sweep import Sweep
from mica_ray.tuning.sweep_folder import SweepFolder
from mica_ray.tuning.sweep_result import SweepResult
from mica_ray.tuning.table import INTERVALS, sweep_text_table

SWEEP_NAME = "SWEEP"


def run_sweep(
    file: str,
    *,
    assignments: Sequence[str],
    resume: bool,
    out: Path | None,
    concurrency: int | None,
    dry_run: bool,
    json_file: Path | None,
) -> bool:
    """Play a sweep, or print what would be done. Says whether there is an answer.

    Raises:
        ConfigError: one line for what cannot be done.
    """
    console = Console()
    sweep = with_base(read_sweep(file), assignments)
    folder = SweepFolder(out or Path("runs") / sweep.name)
    plan = check_sweep(sweep, folder, resumes=resume, concurrency=concurrency)
    if dry_run:
        console.print(_plan_table(plan))
        if json_file is not None:
            write_json(json_file, {"plan": dict(plan.lines)})
        return True
    with StageBars(sweep.base, console, num_evaluated=0) as bars:
        make_policies(sweep, bars)
    with TrialBoard(sweep, console) as board:
        outcome = run_session(sweep, folder, resumes=resume, concurrency=concurrency, watches=[board])
    _show(console, sweep, folder, outcome)
    if json_file is not None:
        write_json(json_file, outcome.record())
    return outcome.reference is not None


def read_sweep(file: str) -> Sweep:
    """Give the sweep of FILE.py or FILE.py:NAME.

    Raises:
        ConfigError: no such file or name, or it holds something else.
    """
    if ".py" not in file:
        raise ConfigError(f"{file}: a sweep is a .py file that defines {SWEEP_NAME}, or FILE.py:NAME")
    found = resolve(file if ".py:" in file else f"{file}:{SWEEP_NAME}")
    sweep = found() if callable(found) and not isinstance(found, Sweep) else found
    if not isinstance(sweep, Sweep):
        raise ConfigError(f"{file}: must give a Sweep; got a {type(sweep).__name__}")
    return sweep


def _plan_table(plan: Plan) -> Table:
    table = Table(
        title="plan; everything that can be checked without starting is in order", show_header=False
    )
    for subject, statement in plan.lines:
        table.add_row(subject, statement)
    return table


def _show(console: Console, sweep: Sweep, folder: SweepFolder, outcome: SweepResult) -> None:
    console.print(_trials_table(outcome))
    sweep_text_table(sweep, outcome).show()
    console.print(INTERVALS, style="dim")
    if outcome.unplayed:
        console.print(
            f"not all trials were played: {outcome.unplayed}; raise it and --resume", style="yellow"
        )
    for subject, text in (
        ("question", sweep.question),
        ("answer", outcome.answer),
        ("sweep", str(folder.book)),
        *(("table", str(path)) for path in folder.tables),
        *(("figure", str(path)) for path in sorted(folder.figures.glob("*.png"))),
        ("MLflow", sweep_store(folder.path, sweep.base.tracking_uri)),
    ):
        # Paths must stay whole, so that they can be copied.
        console.print(f"{subject:>10}  {text}", highlight=False, soft_wrap=True)


def _trials_table(outcome: SweepResult) -> Table:
    table = Table(title="trials", box=SIMPLE_HEAD)
    for column in ("trial", "status", "retries", "time", "reason"):
        table.add_column(
            column, justify="right" if column in ("retries", "time") else "left", overflow="fold"
        )
    for entry in outcome.entries:
        table.add_row(
            entry.trial.id, entry.status, str(entry.retries), show_time(entry.seconds), entry.reason
        )
    return table
