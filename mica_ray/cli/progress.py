"""Progress bars of the commands: stages of a run, cases of an evaluation, and simple counts."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from mica_ray.config import RunConfig
from mica_ray.launch.assembly import ROLL_FORWARD
from mica_ray.types import Stop, Trajectory

_SPEED_SECONDS = 600.0
"""Window over which the time left is estimated. One dialogue with real models takes minutes."""


def new_bars(console: Console, *, transient: bool = False) -> Progress:
    """Return progress bars without tasks: description, bar, count, time elapsed and time left.

    Everything fits in 80 columns: a long description is wrapped, numbers are never cut. Nothing is drawn
    if the console is not a terminal.

    Args:
        console: where the bars are drawn.
        transient: whether the bars disappear at the end.
    """
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold", ratio=1)),
        BarColumn(bar_width=20),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("left"),
        console=console,
        speed_estimate_period=_SPEED_SECONDS,
        disable=not console.is_terminal,
        transient=transient,
    )


class StageBars:
    """Two bars for a run, as the `Progress` of loop and run: steps of the run, dialogues of the stage."""

    def __init__(self, config: RunConfig, console: Console, *, num_evaluated: int) -> None:
        """Create the bars; entering the context shows them.

        Args:
            config: config of the run.
            console: where they are drawn; only plain lines where it is not a terminal.
            num_evaluated: dialogues of one evaluation, or continuations of a credit check.
        """
        self._console = console
        self._totals = {
            "collect dialogues": config.dialogues_per_step,
            "evaluate": num_evaluated,
            ROLL_FORWARD: num_evaluated,
        }
        self._bars = new_bars(console)
        self._steps: TaskID = self._bars.add_task("steps", total=config.loop.num_steps)
        self._stage: TaskID = self._bars.add_task("set up", total=None)
        self._name = ""

    def __enter__(self) -> Self:
        """Show the bars."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the bars; their last state stays visible."""
        self._bars.stop()

    def stage(self, name: str, *, step: int, num_steps: int) -> None:
        """Show the name of the stage and start its count at 0."""
        self._bars.update(self._steps, completed=step, total=num_steps)
        self._bars.reset(self._stage, total=self._totals.get(name), description=name)
        if not self._console.is_terminal and name.startswith(("set up", "evaluate")) and name != self._name:
            self._console.print(name, highlight=False)
        self._name = name

    def dialogue_ended(self, trajectory: Trajectory) -> None:
        """Count one more dialogue."""
        self._bars.advance(self._stage)


class CaseBar:
    """One bar over all dialogues of an evaluation; one line per dialogue where there is no terminal."""

    def __init__(self, console: Console, *, done: int, total: int) -> None:
        """Create the bar; entering the context shows it.

        Args:
            console: where it is drawn.
            done: dialogues that earlier calls finished.
            total: dialogues of the whole evaluation.
        """
        self._console, self._done, self._total = console, done, total
        self._ended = {"success": 0, "other": 0, "failed": 0}
        self._bar = new_bars(console)
        self._task = self._bar.add_task("play cases", total=total, completed=done)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the bar; its last state stays visible."""
        self._bar.stop()

    def ended(self, trajectory: Trajectory) -> None:
        """Count one more dialogue; a failed one does not move the bar."""
        stop = trajectory.stop
        self._ended[stop if stop in self._ended else "other"] += 1
        if stop is not Stop.FAILED:
            self._done += 1
        counts = ", ".join(f"{count} {name}" for name, count in self._ended.items() if count)
        self._bar.update(self._task, completed=self._done, description=f"play cases: {counts}")
        if not self._console.is_terminal:
            turns = len(trajectory.turns)
            place = f"{self._done}/{self._total}"
            self._console.print(
                f"{place} {trajectory.scenario.id}: {stop} after {turns} turns", highlight=False
            )
