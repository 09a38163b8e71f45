"""What became of each trial: `sweep.json`, rewritten whole with every change.

Whether a run came to its end is not in it but in the run's folder, which every session reads again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from mica_ray.chat.ledger import Ledger, total
from mica_ray.files import write_json
from mica_ray.launch.plan import gpus_wanted
from mica_ray.tuning.space import plain_value
from mica_ray.tuning.sweep import Sweep
from mica_ray.tuning.trial import Trial

TrialStatus = Literal["waiting", "running", "finished", "stopped", "failed"]
"""stopped: by the scheduler, or by the sweep's budget. failed: given up after its retries."""

_MONEY_SECONDS = 30.0
"""Between two additions of what the role models cost, for which every trial's ledger is read."""


@dataclass(frozen=True, slots=True)
class TrialEntry:
    """What is known of one trial."""

    trial: Trial
    status: TrialStatus = "waiting"
    retries: int = 0
    """How often it went on after a failure."""
    reason: str = ""
    """Of the last failure, or why it was stopped; empty where nothing happened."""
    seconds: float = 0.0
    """It ran, over all sessions."""
    step: int | None = None
    """Last step it told of."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Last value of each metric it told of."""


class TrialWatch(Protocol):
    """Is told of every change of a trial: the screen, a tracker."""

    def changed(self, before: TrialEntry, after: TrialEntry) -> None:
        """Take a change of one trial."""
        ...


class TrialBook:
    """The entries of all trials of a sweep. Consumes what trials tell, produces `sweep.json`.

    Args:
        sweep: whose trials they are.
        file: written whole with every change of a status; what an earlier session left is read.
        watches: told of every change.
    """

    def __init__(self, sweep: Sweep, file: Path, watches: Sequence[TrialWatch] = ()) -> None:
        self._sweep, self._file, self._watches = sweep, file, tuple(watches)
        self._entries: dict[str, TrialEntry] = {}
        self._started: dict[str, float] = {}
        self._session_start = time.monotonic()
        self._money: tuple[float, float] | None = None
        self._earlier = json.loads(file.read_text()) if file.is_file() else {}

    @property
    def entries(self) -> tuple[TrialEntry, ...]:
        """All entries, in the order of the trials."""
        return tuple(self._entries.values())

    def enter(self, trials: Sequence[Trial], *, most: int | None = None) -> int:
        """Take up trials: finished ones as their folders say, others as waiting.

        Args:
            trials: those already in the book are left as they are.
            most: entries in the book at most; None for no bound.

        Returns:
            How many found no place.
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
        """Give the entry of a trial as earlier sessions left it; what failed in them is tried again."""
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
        """Give those of the trials that are still to be played."""
        return tuple(
            trial
            for trial in trials
            if trial.id in self._entries and self._entries[trial.id].status == "waiting"
        )

    def started(self, trial_id: str) -> None:
        """Note that a trial runs."""
        self._started[trial_id] = time.monotonic()
        self._change(trial_id, status="running")

    def reported(self, trial_id: str, step: int, metrics: Mapping[str, float]) -> None:
        """Note the metrics of a step; kept in memory only, since the trial's folder has them."""
        entry = self._entries[trial_id]
        after = replace(
            entry, step=step, metrics={**entry.metrics, **metrics}, seconds=self._seconds(trial_id)
        )
        self._entries[trial_id] = after
        self._started[trial_id] = time.monotonic()
        self._tell(entry, after)

    def failed_once(self, trial_id: str, reason: str) -> None:
        """Note that a trial failed and goes on from its checkpoint."""
        self._change(trial_id, status="waiting", retries=self._entries[trial_id].retries + 1, reason=reason)

    def ended(self, trial_id: str, status: TrialStatus, reason: str | None = None) -> None:
        """Note how a trial ended; without a reason, the one it has stays."""
        entry = self._entries[trial_id]
        if entry.status in ("waiting", "running"):
            self._change(trial_id, status=status, reason=entry.reason if reason is None else reason)

    def excess(self) -> str | None:
        """Say which part of the sweep's budget is used up; None while there is some left."""
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
        """Write the book for good, with what the sweep came to."""
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
        self._tell(entry, after)

    def _tell(self, before: TrialEntry, after: TrialEntry) -> None:
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


EARLY = "stopped early by the scheduler"
"""Reason of trials that are not played on by a later session."""
