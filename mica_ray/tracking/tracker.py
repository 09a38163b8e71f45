"""Where metrics go: the screen, a file; MLflow is in mlflow_tracker.py. What they mean is in metrics.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from mica_ray.files import StepLog

if TYPE_CHECKING:
    from rich.console import Console

Ending = Literal["finished", "failed", "stopped"]
"""How a run came to its end. stopped: by its user, its sweep or its budget, before the last step."""


class Tracker(Protocol):
    """Takes what a run measures.

    Consumes metrics by step, produces records; may wait for a disk or a server.
    """

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics of a step. Several calls per step add up; no step's metric is recorded twice."""
        ...

    def artifact(self, path: Path) -> None:
        """Keep a copy of a file or folder with the run."""
        ...

    def close(self, ending: Ending = "finished") -> None:
        """Flush and end the record, which says how the run ended."""
        ...


@dataclass(frozen=True, slots=True)
class Trackers:
    """Several trackers as one."""

    trackers: Sequence[Tracker]

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Tell each."""
        for tracker in self.trackers:
            tracker.log(metrics, step)

    def artifact(self, path: Path) -> None:
        """Give it to each."""
        for tracker in self.trackers:
            tracker.artifact(path)

    def close(self, ending: Ending = "finished") -> None:
        """Close each."""
        for tracker in self.trackers:
            tracker.close(ending)


@dataclass(frozen=True, slots=True)
class ConsoleTracker:
    """One line per call on a rich console: the chosen metrics that the call holds."""

    console: Console
    shown: tuple[str, ...] = (
        "idr_mean", "return_mean", "success_fraction", "turns_mean", "grad_norm", "logprob_difference_max",
    )  # fmt: skip

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Print the shown metrics of this call; print nothing when it has none of them."""
        parts = [f"{name} [bold]{metrics[name]:.4g}[/bold]" for name in self.shown if name in metrics]
        if parts:
            self.console.print(f"step {step:>4}  " + "  ".join(parts), highlight=False)

    def artifact(self, path: Path) -> None:
        """A screen keeps no files."""

    def close(self, ending: Ending = "finished") -> None:
        """Nothing is held."""


class JsonlTracker:
    """Metrics as JSON lines {"step", name: value, ...}, one line per call."""

    def __init__(self, path: Path, *, first_step: int = 0) -> None:
        """Open the file.

        Lines of `first_step` and later steps are dropped, because those steps come again.
        """
        self._log = StepLog(path, first_step=first_step)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write one line."""
        self._log.append(step, [metrics])

    def artifact(self, path: Path) -> None:
        """The files lie in the run folder already."""

    def close(self, ending: Ending = "finished") -> None:
        """Every line is on the disk already."""
