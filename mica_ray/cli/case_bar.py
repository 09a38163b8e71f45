"""Progress of an evaluation on the terminal: cases finished, and how they ended."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console

from mica_ray.cli.progress_bars import new_bars
from mica_ray.types import Stop, Trajectory


class CaseBar:
    """One bar over all dialogues of an evaluation; a line per dialogue where the console is no terminal."""

    def __init__(self, console: Console, *, done: int, total: int) -> None:
        """Hold the bar still; entering the context shows it.

        Args:
            console: where it is drawn.
            done: dialogues finished by earlier calls.
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
        """Take the bar away."""
        self._bar.stop()

    def ended(self, trajectory: Trajectory) -> None:
        """Count one more dialogue; a failed one does not move the bar."""
        stop = trajectory.stop
        self._ended[stop if stop in self._ended else "other"] += 1
        if stop is not Stop.FAILED:
            self._done += 1
        told = ", ".join(f"{count} {name}" for name, count in self._ended.items() if count)
        self._bar.update(self._task, completed=self._done, description=f"play cases: {told}")
        if not self._console.is_terminal:
            turns = len(trajectory.turns)
            place = f"{self._done}/{self._total}"
            self._console.print(
                f"{place} {trajectory.scenario.id}: {stop} after {turns} turns", highlight=False
            )
