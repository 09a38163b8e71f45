"""Where metrics go: one console line per step, a file, or several trackers.

MLflow is in mlflow_tracker.py; what the metrics mean is in training/metrics.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from mica_ray.files import StepLog

if TYPE_CHECKING:
    from rich.console import Console

Ending = Literal["finished", "failed", "stopped"]
"""How a run ended. stopped: by its user, its sweep or its budget, before the last step."""


class Tracker(Protocol):
    """Records what a run measures. May wait for a disk or a server."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics of a step. A step may be logged in several calls, each metric once."""
        ...

    def artifact(self, path: Path) -> None:
        """Keep a copy of a file or folder with the run."""
        ...

    def close(self, ending: Ending = "finished") -> None:
        """Flush the record and mark how the run ended."""
        ...


@dataclass(frozen=True, slots=True)
class Trackers:
    """Several trackers as one."""

    trackers: Sequence[Tracker]

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log to each tracker."""
        for tracker in self.trackers:
            tracker.log(metrics, step)

    def artifact(self, path: Path) -> None:
        """Keep the file with each tracker."""
        for tracker in self.trackers:
            tracker.artifact(path)

    def close(self, ending: Ending = "finished") -> None:
        """Close each tracker."""
        for tracker in self.trackers:
            tracker.close(ending)


_COLUMNS: Mapping[str, str] = {
    "idr_mean": "IDR",
    "return_mean": "return",
    "success_fraction": "success",
    "audit/gap_z": "gap z",
    "grad_norm": "grad",
    "logprob_difference_max": "diff",
}
"""Label of each metric on the console, most important first: a narrow console drops the last ones."""


class ConsoleTracker:
    """One line per step on a rich console, never wrapped, with the estimated time left."""

    def __init__(
        self, console: Console, *, num_steps: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start without any measured step.

        Args:
            console: where the lines are printed.
            num_steps: of the whole run, steps before a resume included.
            clock: seconds; only differences count.
        """
        self._console, self._num_steps, self._clock = console, num_steps, clock
        self._first: tuple[int, float] | None = None
        """Step and time of the first line. It may include a slow start, so the estimate begins after it."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Print the line of a step; print nothing for a call without any of the console's metrics."""
        fields = [
            (label, _percent(metrics[name]) if name.endswith("_fraction") else _short(metrics[name]))
            for name, label in _COLUMNS.items()
            if name in metrics
        ]
        if fields:
            left = self._time_left(step)
            line = _fit(
                [("step", f"{step + 1}/{self._num_steps}"), *fields],
                last=None if left is None else ("left", left),
                width=self._console.width,
            )
            self._console.print(line, markup=True, highlight=False, no_wrap=True, overflow="ellipsis")

    def artifact(self, path: Path) -> None:
        """Do nothing: a console keeps no files."""

    def close(self, ending: Ending = "finished") -> None:
        """Do nothing: every line is already printed."""

    def _time_left(self, step: int) -> str | None:
        """Return the time left at the mean pace since the first line; None without a pace."""
        now = self._clock()
        if self._first is None:
            self._first = (step, now)
        first_step, begin = self._first
        remaining = self._num_steps - step - 1
        if step <= first_step or remaining <= 0:
            return None
        return _duration(remaining * (now - begin) / (step - first_step))


def _fit(fields: Sequence[tuple[str, str]], *, last: tuple[str, str] | None, width: int) -> str:
    """Join fields within `width` characters: narrow the gaps, then drop the last fields."""
    for count in range(len(fields), 0, -1):
        kept = [*fields[:count], *([] if last is None else [last])]
        for gap in ("  ", " "):
            if len(gap.join(f"{label} {text}" for label, text in kept)) <= width:
                return gap.join(f"{label} [bold]{text}[/bold]" for label, text in kept)
    return "{} [bold]{}[/bold]".format(*fields[0])


def _short(value: float) -> str:
    """Format a number in about five characters, such as -0.25, 1234 or 3e-5.

    >>> [_short(x) for x in (0.0, 0.438, -12.34, 1234.5, 98765.0, 2.6e-5, float("nan"))]
    ['0.00', '0.44', '-12.3', '1234', '1e5', '3e-5', 'nan']
    """
    size = abs(value)
    if not math.isfinite(value):
        return f"{value:g}"
    if size >= 9999.5 or 0 < size < 0.001:
        digits, exponent = f"{value:.0e}".split("e")
        return f"{digits}e{int(exponent)}"
    return f"{value:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"


def _percent(value: float) -> str:
    return f"{value:.0%}" if math.isfinite(value) else f"{value:g}"


def _duration(seconds: float) -> str:
    """Format a duration by its two largest units.

    >>> [_duration(x) for x in (7.6, 130, 3900, 100_000)]
    ['8s', '2m10s', '1h05m', '1d03h']
    """
    total = round(seconds)
    minutes, hours, days = total // 60, total // 3600, total // 86_400
    if days:
        return f"{days}d{hours % 24:02}h"
    if hours:
        return f"{hours}h{minutes % 60:02}m"
    return f"{minutes}m{total % 60:02}s" if minutes else f"{total}s"


class JsonlTracker:
    """Metrics as JSON lines {"step", name: value, ...}, one line per call."""

    def __init__(self, path: Path, *, first_step: int = 0) -> None:
        """Open the file.

        Lines of `first_step` and later steps are dropped, because those steps run again.
        """
        self._log = StepLog(path, first_step=first_step)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write one line."""
        self._log.append(step, [metrics])

    def artifact(self, path: Path) -> None:
        """Do nothing: the files are already in the run folder."""

    def close(self, ending: Ending = "finished") -> None:
        """Do nothing: every line is already on the disk."""
