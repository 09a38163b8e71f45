"""The folder of a sweep: the path of each file in it. Other modules write the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """A sweep's files: `sweep.json`, one run folder `trials/ID/` each, `errors/ID.txt`, tables, `figures/`.

    The sweep's MLflow run uses the same files as a training run: mlflow_run.txt and mlflow_outbox.jsonl.
    Without another store, sweep and trials share mlflow.db and mlflow/ in this folder.
    """

    path: Path

    @property
    def book(self) -> Path:
        """State of each trial, and the sweep's result."""
        return self.path / "sweep.json"

    @property
    def trials(self) -> Path:
        """Parent of the trials' run folders."""
        return self.path / "trials"

    @property
    def tables(self) -> tuple[Path, Path]:
        """One row per cell, as CSV and as Markdown."""
        return self.path / "cells.csv", self.path / "cells.md"

    @property
    def figures(self) -> Path:
        """Folder of the figures (PNG)."""
        return self.path / "figures"

    def lock(self, trial_id: str | None = None) -> Path:
        """Return the lock file of a trial's process, or of the process that runs the sweep."""
        return self.path / "locks" / trial_id if trial_id else self.path / "lock"

    def error(self, trial_id: str) -> Path:
        """Return the file with the traceback of a trial's last failure."""
        return self.path / "errors" / f"{trial_id}.txt"
