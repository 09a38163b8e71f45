"""The live table of a sweep's trials; where there is no terminal, a line for each trial that ended."""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mica_ray.tuning.sweep import Sweep
from mica_ray.tuning.trial_book import TrialEntry, TrialStatus

_MOST_ROWS = 24
"""Of trials shown at once; beyond it, those that run or ended last."""
_COLOURS: dict[TrialStatus, str] = {
    "running": "cyan",
    "finished": "green",
    "stopped": "yellow",
    "failed": "red",
}
_ORDER: tuple[TrialStatus, ...] = ("finished", "stopped", "failed", "running", "waiting")


class TrialBoard:
    """A `TrialWatch` as a rich table: cell, seed, status, step, metric, time."""

    def __init__(self, sweep: Sweep, console: Console) -> None:
        """Hold the table still; entering the context shows it."""
        self._sweep, self._console = sweep, console
        self._entries: dict[str, TrialEntry] = {}
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        """Show the table."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the table away."""
        self._live.stop()

    def changed(self, before: TrialEntry, after: TrialEntry) -> None:
        """Show a trial as it is now."""
        self._entries.pop(after.trial.id, None) if after.status != before.status else None
        self._entries[after.trial.id] = after
        if self._console.is_terminal or before.status == after.status:
            return
        if after.status in ("finished", "stopped", "failed") or after.reason:
            self._console.print(self._line(after), highlight=False, soft_wrap=True)

    def _line(self, entry: TrialEntry) -> Text:
        counts = Counter(entry.status for entry in self._entries.values())
        word = "failed, goes on from its checkpoint" if entry.status == "waiting" else entry.status
        reason = f": {entry.reason}" if entry.reason else ""
        done = sum(counts[status] for status in ("finished", "stopped", "failed"))
        return Text(
            f"{entry.trial.id}  {word}  {self._metric(entry)}  {show_time(entry.seconds)}  "
            f"({done} done){reason}"
        )

    def _table(self) -> Table:
        entries = list(self._entries.values())
        counts = Counter(entry.status for entry in entries)
        told = ", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status])
        table = Table(title=f"{self._sweep.name}: {told}", box=SIMPLE_HEAD)
        for column in ("cell", "seed", "status", "step", self._sweep.curve, self._sweep.metric, "time"):
            justify = "left" if column in ("cell", "status") else "right"
            table.add_column(column, justify=justify, overflow="fold")
        if len(entries) > _MOST_ROWS:
            shown = [entry for entry in entries if entry.status != "waiting"][-_MOST_ROWS:]
        else:
            shown = sorted(entries, key=lambda entry: (entry.trial.seed, entry.trial.cell.name))
        for entry in shown:
            table.add_row(*self._cells(entry))
        return table

    def _cells(self, entry: TrialEntry) -> tuple[str | Text, ...]:
        again = f", retried {entry.retries}" if entry.retries else ""
        steps = entry.trial.config.loop.num_steps
        step = "" if entry.step is None else f"{min(entry.step + 1, steps)}/{steps}"
        curve = entry.metrics.get(self._sweep.curve)
        return (
            entry.trial.cell.name,
            str(entry.trial.seed),
            Text(entry.status + again, style=_COLOURS.get(entry.status, "")),
            step,
            "" if curve is None else f"{curve:.3g}",
            self._metric(entry),
            show_time(entry.seconds) if entry.seconds else "",
        )

    def _metric(self, entry: TrialEntry) -> str:
        value = entry.metrics.get(self._sweep.metric)
        return "" if value is None else f"{value:.4g}"


def show_time(seconds: float) -> str:
    """Write seconds as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
