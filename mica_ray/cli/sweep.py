"""`mica sweep`: the trials while they run, then the table by cell, the answer and the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mica_ray.cli.options import DryRunOption, JsonFileOption, SetOption, new_console, save_json

if TYPE_CHECKING:
    from mica_ray.tuning.sweep import Sweep
    from mica_ray.tuning.sweep_folder import SweepFolder
    from mica_ray.tuning.sweep_result import SweepResult
    from mica_ray.tuning.trial_book import TrialEntry, TrialStatus

SWEEP_NAME = "SWEEP"

_MAX_ROWS = 24
"""Trials shown at the same time; if there are more, those that run or ended last."""
_COLOURS: dict[TrialStatus, str] = {
    "running": "cyan",
    "finished": "green",
    "stopped": "yellow",
    "failed": "red",
}
_ORDER: tuple[TrialStatus, ...] = ("finished", "stopped", "failed", "running", "waiting")
_ENDED: tuple[TrialStatus, ...] = ("finished", "stopped", "failed")


def sweep_command(
    file: Annotated[
        str, typer.Argument(metavar="SWEEP.py", help="A Python file that defines SWEEP, or FILE.py:NAME.")
    ],
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the sweep in its folder. Finished trials are not repeated."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the sweep. Default: runs/NAME."),
    ] = None,
    sets: SetOption = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", min=1, help="Trials at the same time. Default: as many as the resources allow."
        ),
    ] = None,
    json_file: JsonFileOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Train every cell of a search space with several seeds, and compare the cells.

    The result is a table by cell and an answer to the question of the sweep.
    The exit code is 1 if there is no answer.
    """
    from mica_ray.cli.progress import StageBars
    from mica_ray.cli.train import plan_table
    from mica_ray.tuning.session import check_sweep, make_policies, run_session, with_base
    from mica_ray.tuning.sweep_folder import SweepFolder

    console = new_console()
    sweep = with_base(read_sweep(file), sets or ())
    folder = SweepFolder(out or Path("runs") / sweep.name)
    plan = check_sweep(sweep, folder, resumes=resume, concurrency=concurrency)
    if dry_run:
        console.print(plan_table(plan))
        save_json(json_file, {"plan": dict(plan.lines)})
        return
    with StageBars(sweep.base, console, num_evaluated=0) as bars:
        make_policies(sweep, bars)
    with TrialBoard(sweep, console) as board:
        outcome = run_session(sweep, folder, resumes=resume, concurrency=concurrency, watches=[board])
    _show(console, sweep, folder, outcome)
    save_json(json_file, outcome.record())
    if outcome.reference is None:
        raise typer.Exit(1)


def read_sweep(file: str) -> Sweep:
    """Return the sweep of FILE.py or FILE.py:NAME.

    Raises:
        ConfigError: the file or name does not exist, or holds something else.
    """
    from mica_ray.config.references import ConfigError, resolve
    from mica_ray.tuning.sweep import Sweep

    if ".py" not in file:
        raise ConfigError(f"{file}: not a sweep. Name a .py file that defines {SWEEP_NAME}, or FILE.py:NAME.")
    found = resolve(file if ".py:" in file else f"{file}:{SWEEP_NAME}")
    sweep = found() if callable(found) and not isinstance(found, Sweep) else found
    if not isinstance(sweep, Sweep):
        raise ConfigError(f"{file}: must be a Sweep, got {type(sweep).__name__}.")
    return sweep


def _show(console: Console, sweep: Sweep, folder: SweepFolder, outcome: SweepResult) -> None:
    from mica_ray.runs.mlflow_run import sweep_store
    from mica_ray.tuning.table import INTERVALS, sweep_text_table

    console.print(_trials_table(outcome))
    sweep_text_table(sweep, outcome).show()
    console.print(INTERVALS, style="dim")
    if outcome.unplayed:
        console.print(
            f"Not all trials were played: {outcome.unplayed}. Raise it and continue with --resume.",
            style="yellow",
        )
    for subject, text in (
        ("question", sweep.question),
        ("answer", outcome.answer),
        ("sweep", str(folder.book)),
        *(("table", str(path)) for path in folder.tables),
        *(("figure", str(path)) for path in sorted(folder.figures.glob("*.png"))),
        ("MLflow", sweep_store(folder.path, sweep.base.tracking_uri)),
    ):
        # No line breaks within paths, so that they can be copied.
        console.print(f"{subject:>10}  {text}", highlight=False, soft_wrap=True)


def _trials_table(outcome: SweepResult) -> Table:
    table = Table(title="trials", box=SIMPLE_HEAD)
    for column in ("trial", "status", "retries", "time", "reason"):
        is_number = column in ("retries", "time")
        table.add_column(
            column,
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=is_number or column == "status",
        )
    for entry in outcome.entries:
        table.add_row(
            entry.trial.id, entry.status, str(entry.retries), show_time(entry.seconds), entry.reason
        )
    return table


class TrialBoard:
    """A live table of trials, as a `TrialWatch`; without a terminal, one line for each trial that ends."""

    def __init__(self, sweep: Sweep, console: Console) -> None:
        """Create the table; entering the context shows it."""
        from rich.live import Live

        self._sweep, self._console = sweep, console
        self._entries: dict[str, TrialEntry] = {}
        self._live = Live(console=console, get_renderable=self.table, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        """Show the table."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the table."""
        self._live.stop()

    def changed(self, before: TrialEntry, after: TrialEntry) -> None:
        """Show the new state of a trial."""
        if after.status != before.status:
            # To the end of the order: the table shows those that changed last.
            self._entries.pop(after.trial.id, None)
        self._entries[after.trial.id] = after
        if self._console.is_terminal or before.status == after.status:
            return
        if after.status in _ENDED or after.reason:
            self._console.print(self._line(after), highlight=False, soft_wrap=True)

    def _line(self, entry: TrialEntry) -> Text:
        counts = Counter(entry.status for entry in self._entries.values())
        word = "failed, continues from its checkpoint" if entry.status == "waiting" else entry.status
        reason = f": {entry.reason}" if entry.reason else ""
        done = sum(counts[status] for status in _ENDED)
        return Text(
            f"{entry.trial.id}  {word}  {self._metric(entry)}  {show_time(entry.seconds)}  "
            f"({done} done){reason}"
        )

    def table(self) -> Table:
        """Return the current state of all trials, or of those that changed last."""
        entries = list(self._entries.values())
        counts = Counter(entry.status for entry in entries)
        states = ", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status])
        table = Table(title=f"{self._sweep.name}: {states}{self._time_left(entries)}", box=SIMPLE_HEAD)
        for column in ("cell", "seed", "status", "step", self._sweep.curve, self._sweep.metric, "time"):
            is_text = column in ("cell", "status")
            table.add_column(
                column, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text
            )
        if len(entries) > _MAX_ROWS:
            rows = [entry for entry in entries if entry.status != "waiting"][-_MAX_ROWS:]
        else:
            rows = sorted(entries, key=lambda entry: (entry.trial.seed, entry.trial.cell.name))
        for entry in rows:
            table.add_row(*self._cells(entry))
        return table

    def _time_left(self, entries: Sequence[TrialEntry]) -> str:
        """Estimate the time until the known trials end, from the mean time of those that have ended."""
        ended = [entry.seconds for entry in entries if entry.status in ("finished", "stopped")]
        running = [entry.seconds for entry in entries if entry.status == "running"]
        num_waiting = sum(entry.status == "waiting" for entry in entries)
        if not sum(ended) or not running:
            return ""
        mean = sum(ended) / len(ended)
        seconds = num_waiting * mean + sum(max(0.0, mean - done) for done in running)
        return f"; about {show_time(seconds / len(running))} left"

    def _cells(self, entry: TrialEntry) -> tuple[str | Text, ...]:
        retries = f", retried {entry.retries}" if entry.retries else ""
        steps = entry.trial.config.loop.num_steps
        step = "" if entry.step is None else f"{min(entry.step + 1, steps)}/{steps}"
        curve = entry.metrics.get(self._sweep.curve)
        return (
            entry.trial.cell.name,
            str(entry.trial.seed),
            Text(entry.status + retries, style=_COLOURS.get(entry.status, "")),
            step,
            "" if curve is None else f"{curve:.3g}",
            self._metric(entry),
            show_time(entry.seconds) if entry.seconds else "",
        )

    def _metric(self, entry: TrialEntry) -> str:
        value = entry.metrics.get(self._sweep.metric)
        return "" if value is None else f"{value:.4g}"


def show_time(seconds: float) -> str:
    """Return seconds as minutes and seconds, such as 2:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
