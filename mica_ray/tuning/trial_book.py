"""State of each trial, kept in `sweep.json`, which is rewritten with every change of status.

Whether a run has finished is not read from this file but from the run's folder, in every session.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from mica_ray.chat.ledger import Ledger, total
from mica_ray.files import read_json_object, write_json
from mica_ray.launch.plan import gpus_wanted
from mica_ray.tuning.space import plain_value
from mica_ray.tuning.sweep import Sweep
from mica_ray.tuning.trial import Trial

TrialStatus = Literal["waiting", "running", "finished", "stopped", "failed"]
"""stopped: by the scheduler or the sweep's budget. failed: out of retries."""

EARLY = "stopped early by the scheduler"
"""Reason of trials that later sessions do not continue."""
_MONEY_SECONDS = 30.0
"""Interval between two sums of the role models' costs; each sum reads the ledgers of all trials."""


@dataclass(frozen=True, slots=True)
class TrialEntry:
    """State of one trial."""

    trial: Trial
    status: TrialStatus = "waiting"
    retries: int = 0
    """Number of retries after a failure."""
    reason: str = ""
    """Reason of the last failure or stop; empty if there was none."""
    seconds: float = 0.0
    """Run time over all sessions."""
    step: int | None = None
    """Last step reported."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Last reported value of each metric."""


class TrialWatch(Protocol):
    """Receives every change of a trial, for example to show it."""

    def changed(self, before: TrialEntry, after: TrialEntry) -> None:
        """Process the change of one trial."""
        ...


class TrialBook:
    """The entries of all trials of a sweep. Receives reports of trials and writes `sweep.json`.

    Args:
        sweep: the sweep.
        file: `sweep.json`; read once if an earlier session wrote it.
        watches: called with every change.
    """

    def __init__(self, sweep: Sweep, file: Path, watches: Sequence[TrialWatch] = ()) -> None:
        self._sweep, self._file, self._watches = sweep, file, tuple(watches)
        self._entries: dict[str, TrialEntry] = {}
        self._started: dict[str, float] = {}
        self._session_start = time.monotonic()
        self._money: tuple[float, float] | None = None
        self._earlier = read_json_object(file) if file.is_file() else {}

    @property
    def entries(self) -> tuple[TrialEntry, ...]:
        """All entries, in the order of the trials."""
        return tuple(self._entries.values())

    def add(self, trials: Sequence[Trial], *, most: int | None = None) -> int:
        """Add trials: as finished if their folder says so, otherwise as waiting.

        Args:
            trials: those already in the book stay unchanged.
            most: maximum number of entries in the book; None for no limit.

        Returns:
            Number of trials left out because of the limit.
        """
        fresh = [trial for trial in trials if trial.id not in self._entries]
        room = len(fresh) if most is None else max(0, most - len(self._entries))
        for trial in fresh[:room]:
            entry = self._entries[trial.id] = self._remembered(trial)
            for watch in self._watches:
                watch.changed(TrialEntry(trial), entry)
        self._write()
        return len(fresh[room:])

    def _remembered(self, trial: Trial) -> TrialEntry:
        """Return a trial's entry from earlier sessions. A trial that failed in them is waiting again."""
        known = self._earlier.get("trials", {}).get(trial.id, {})
        entry = TrialEntry(trial, seconds=float(known.get("seconds", 0.0)))
        was_stopped = known.get("status") == "stopped" and known.get("reason") == EARLY
        if not trial.is_finished and not was_stopped:
            return entry
        return replace(
            entry,
            status="finished" if trial.is_finished else "stopped",
            retries=int(known.get("retries", 0)),
            reason=str(known.get("reason", "")),
        )

    def waiting(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        """Return the trials that still have to run."""
        return tuple(
            trial
            for trial in trials
            if trial.id in self._entries and self._entries[trial.id].status == "waiting"
        )

    def started(self, trial_id: str) -> None:
        """Record that a trial started."""
        self._started[trial_id] = time.monotonic()
        self._change(trial_id, status="running")

    def reported(self, trial_id: str, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a step, in memory only: the trial's folder has them on disk."""
        entry = self._entries[trial_id]
        after = replace(
            entry, step=step, metrics={**entry.metrics, **metrics}, seconds=self._seconds(trial_id)
        )
        self._entries[trial_id] = after
        self._started[trial_id] = time.monotonic()
        self._notify(entry, after)

    def failed_once(self, trial_id: str, reason: str) -> None:
        """Record a failure after which the trial continues from its checkpoint."""
        self._change(trial_id, status="waiting", retries=self._entries[trial_id].retries + 1, reason=reason)

    def ended(self, trial_id: str, status: TrialStatus, reason: str | None = None) -> None:
        """Record how a trial ended. Without a reason, its earlier one stays."""
        entry = self._entries[trial_id]
        if entry.status in ("waiting", "running"):
            self._change(trial_id, status=status, reason=entry.reason if reason is None else reason)

    def exceeded_limit(self) -> str | None:
        """Return which limit of the sweep's budget is reached; None if none is."""
        budget = self._sweep.budget
        hours = (float(self._earlier.get("seconds", 0.0)) + self._session_seconds) / 3600
        if budget.hours is not None and hours >= budget.hours:
            return f"budget.hours={budget.hours:g} is used up"
        if budget.gpu_hours is not None:
            seconds = {entry.trial.id: self._seconds(entry.trial.id) for entry in self.entries}
            used = sum(gpus_wanted(e.trial.config) * seconds[e.trial.id] / 3600 for e in self.entries)
            if used >= budget.gpu_hours:
                return f"budget.gpu_hours={budget.gpu_hours:g} is used up"
        if budget.judge_usd is not None and self._usd() >= budget.judge_usd:
            return f"budget.judge_usd={budget.judge_usd:g} is used up"
        return None

    def close(self, outcome: Mapping[str, object]) -> None:
        """Write the book with the sweep's result."""
        self._write(outcome)

    @property
    def _session_seconds(self) -> float:
        return time.monotonic() - self._session_start

    def _seconds(self, trial_id: str) -> float:
        entry, start = self._entries[trial_id], self._started.get(trial_id)
        return entry.seconds + (time.monotonic() - start if start is not None else 0.0)

    def _usd(self) -> float:
        now = time.monotonic()
        if self._money is None or now - self._money[0] > _MONEY_SECONDS:
            costs = (total(Ledger(entry.trial.folder.costs).totals()).usd for entry in self.entries)
            self._money = (now, sum(costs))
        return self._money[1]

    def _change(
        self, trial_id: str, *, status: TrialStatus, reason: str | None = None, retries: int | None = None
    ) -> None:
        entry = self._entries[trial_id]
        after = replace(
            entry,
            status=status,
            seconds=self._seconds(trial_id),
            reason=entry.reason if reason is None else reason,
            retries=entry.retries if retries is None else retries,
        )
        self._entries[trial_id] = after
        if status == "running":
            self._started[trial_id] = time.monotonic()
        else:
            self._started.pop(trial_id, None)
        self._write()
        self._notify(entry, after)

    def _notify(self, before: TrialEntry, after: TrialEntry) -> None:
        for watch in self._watches:
            watch.changed(before, after)

    def _write(self, outcome: Mapping[str, object] | None = None) -> None:
        sweep, cells = self._sweep, {entry.trial.cell.name: entry.trial.cell for entry in self.entries}
        write_json(
            self._file,
            {
                "name": sweep.name,
                "question": sweep.question,
                "metric": sweep.metric,
                "mode": sweep.mode,
                "seeds": sweep.seeds,
                "budget": asdict(sweep.budget),
                "seconds": float(self._earlier.get("seconds", 0.0)) + self._session_seconds,
                "cells": {
                    name: {key: plain_value(value) for key, value in cell.values.items()}
                    for name, cell in cells.items()
                },
                "trials": {
                    entry.trial.id: {
                        "cell": entry.trial.cell.name,
                        "seed": entry.trial.seed,
                        "status": entry.status,
                        "retries": entry.retries,
                        "reason": entry.reason,
                        "seconds": entry.seconds,
                    }
                    for entry in self.entries
                },
                **({} if outcome is None else {"outcome": outcome}),
            },
        )
