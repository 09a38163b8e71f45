"""The folder of a sweep: what lies where in it. The parts write their own files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """Where a sweep lies: `sweep.json`, a run folder `trials/ID/` each, `errors/ID.txt`, tables, `figures/`.

    Its MLflow run has the files that a run folder's has: mlflow_run.txt, mlflow_outbox.jsonl, and where no
    other store is named, mlflow.db and mlflow/, which the trials share.
    """

    path: Path

    @property
    def book(self) -> Path:
        """What became of each trial, and the outcome."""
        return self.path / "sweep.json"

    @property
    def trials(self) -> Path:
        """The run folders."""
        return self.path / "trials"

    @property
    def tables(self) -> tuple[Path, Path]:
        """A row for each cell, as CSV and as Markdown."""
        return self.path / "cells.csv", self.path / "cells.md"

    @property
    def figures(self) -> Path:
        """Pictures of the outcome."""
        return self.path / "figures"

    def lock(self, trial_id: str | None = None) -> Path:
        """Held by who plays the sweep, or who trains a trial."""
        return self.path / "locks" / trial_id if trial_id else self.path / "lock"

    def error(self, trial_id: str) -> Path:
        """Traceback of a trial's last failure."""
        return self.path / "errors" / f"{trial_id}.txt"
