"""The MLflow run of a sweep: question, answer and scores by cell. The trials' runs are its children.

tracking/mlflow_tracker.py sends to MLflow and handles an unreachable server.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.mlflow_run import open_tracking, start_sweep_tracking, sweep_store
from mica_ray.tracking.mlflow_tracker import MlflowTracker
from mica_ray.tracking.tracker import Ending
from mica_ray.tuning.folder_lock import locked
from mica_ray.tuning.space import Dimension, show_value
from mica_ray.tuning.sweep import Sweep
from mica_ray.tuning.sweep_folder import SweepFolder
from mica_ray.tuning.sweep_result import SweepResult
from mica_ray.tuning.trial import Trial
from mica_ray.tuning.trial_book import TrialEntry

_LOG = logging.getLogger(__name__)

_DRAIN_SECONDS = 2.0
"""Longest wait without progress per trial run. Short, as the sweep's run has waited longer before."""
_LONGEST_NAME = 200
"""Maximum length of a cell's name in a metric name; MLflow allows 250 characters in total."""


class SweepTracking:
    """The MLflow run of a sweep. `close` waits for the store.

    A sweep that was tracked before continues its run. Otherwise the run is created with the first trial that
    still has to run, because finished trials cannot become its children.
    """

    def __init__(self, sweep: Sweep, folder: SweepFolder) -> None:
        """Reopen the sweep's run, if it has one.

        Raises:
            ConfigError: the run is not in the store.
        """
        self._sweep, self._folder = sweep, folder
        self._store = sweep_store(folder.path, sweep.base.tracking_uri)
        self._tracker: MlflowTracker | None = None
        if RunFolder(folder.path.absolute()).read_tracking_run() is not None:
            self._begin()

    def with_parent(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        """Return the trials as children of the sweep's run. A trial that has started keeps its parent.

        Raises:
            ConfigError: the sweep's run must be created, and the store cannot be reached.
        """
        if self._tracker is None and all(trial.is_finished for trial in trials):
            return tuple(trials)
        parent = (self._tracker or self._begin()).run_id
        return tuple(_with_parent(trial, self._store, parent) for trial in trials)

    def conclude(self, outcome: SweepResult) -> None:
        """Log the result after the sweep's files are written. A repeated session logs no number twice."""
        if self._tracker is None:
            return
        texts = {"answer": outcome.answer, "reference": outcome.reference or "", "unplayed": outcome.unplayed}
        self._tracker.tags(texts)
        # The number of finished trials grows over the sessions, so it serves as the step.
        finished = sum(entry.status == "finished" for entry in outcome.entries)
        self._tracker.log({**cell_metrics(outcome), "finished_trials": finished}, finished)
        for path in (self._folder.book, *self._folder.tables, self._folder.figures):
            if path.exists():
                self._tracker.artifact(path)

    def close(self, entries: Sequence[TrialEntry], ending: Ending) -> None:
        """End the sweep's run and the runs of unfinished trials. What cannot be sent stays in the outbox.

        Args:
            entries: the trials.
            ending: how this session ended.
        """
        if self._tracker is None:
            return
        self._tracker.close(ending)
        for entry in entries:
            if entry.status != "finished":
                _end(entry, self._folder)

    def _begin(self) -> MlflowTracker:
        sweep = self._sweep
        self._tracker = start_sweep_tracking(
            sweep.name,
            self._folder.path,
            uri=self._store,
            params={
                **{f"space.{dimension.key}": _describe_options(dimension) for dimension in sweep.dimensions},
                "seeds": ", ".join(map(str, sweep.seeds)),
                "metric": f"{sweep.metric}, {sweep.mode}",
                "search": show_value(sweep.search),
                "scheduler": show_value(sweep.scheduler),
            },
            description=sweep.question,
            parent=sweep.base.tracking_parent,
        )
        return self._tracker


def cell_metrics(outcome: SweepResult) -> Mapping[str, float]:
    """Return each cell's numbers as metrics such as `interquartile_mean/alpha_0.5`, without NaN."""
    safe = [re.sub(r"[^\w .-]+", "_", row.cell.name)[:_LONGEST_NAME] for row in outcome.rows]
    names = [name if safe.count(name) == 1 else f"{name}_{index}" for index, name in enumerate(safe)]
    found = {
        f"{measure}{suffix}/{name}": getattr(interval, bound)
        for name, row in zip(names, outcome.rows, strict=True)
        for measure, interval in (
            ("interquartile_mean", row.middle),
            ("mean", row.mean),
            ("difference", row.gain),
            ("probability_of_improvement", row.chance),
        )
        if interval is not None
        for bound, suffix in (("estimate", ""), ("low", "_low"), ("high", "_high"))
    }
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _end(entry: TrialEntry, folder: SweepFolder) -> None:
    """End a trial's MLflow run and send its outbox, which its killed process could not do."""
    run, trial_id = entry.trial.folder, entry.trial.id
    if not (run.config_file.is_file() and run.outbox.is_file()):
        return
    try:
        refusal = "Another process is training this trial and will end its MLflow run."
        with locked(folder.lock(trial_id), refusal):
            config = RunConfig.read(run.config_file, trusted=True)
            tracker = open_tracking(config, run, drain_seconds=_DRAIN_SECONDS)
            tracker.close("failed" if entry.status == "failed" else "stopped")
    except ConfigError as error:
        _LOG.warning("%s", error)


def _with_parent(trial: Trial, store: str, parent: str) -> Trial:
    file = trial.folder.config_file
    if file.is_file() and file.stat().st_size:
        started = RunConfig.read(file, trusted=True)
        place = {"tracking_uri": started.tracking_uri, "tracking_parent": started.tracking_parent}
    else:
        place = {"tracking_uri": store, "tracking_parent": parent}
    return replace(trial, config=trial.config.model_copy(update=place))


def _describe_options(dimension: Dimension) -> str:
    span = dimension.span
    if span is None:
        return ", ".join(dimension.options)
    return f"{span.low:g} to {span.high:g}{', by orders of magnitude' if span.log else ''}"
