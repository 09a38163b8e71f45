"""A sweep in MLflow: a run with what was asked and answered, under which its trials' runs are shown.

What MLflow is told, and when it is away: tracking/mlflow_tracker.py.
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
from mica_ray.runs.mlflow_run import begin_sweep_tracking, open_tracking, sweep_store
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
"""Without progress, for each trial's run that is ended here: the sweep's own has waited longer before."""
_LONGEST_NAME = 200
"""Characters of a cell in a metric's name; MLflow takes 250 in all."""


class SweepTracking:
    """The MLflow run of a sweep. Consumes trials and what they came to; waits for the store in `close`.

    A sweep that was tracked before goes on in its run. Another begins one with its first trial: where
    nothing is left to be played, there is nothing to be shown under it.
    """

    def __init__(self, sweep: Sweep, folder: SweepFolder) -> None:
        """Go on with the sweep's run, if it has one.

        Raises:
            ConfigError: the store does not know it.
        """
        self._sweep, self._folder = sweep, folder
        self._store = sweep_store(folder.path, sweep.base.tracking_uri)
        self._tracker: MlflowTracker | None = None
        if RunFolder(folder.path.absolute()).read_tracking_run() is not None:
            self._begin()

    def placed(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        """Give trials such that they are shown under the sweep; one that has begun stays where it is.

        Raises:
            ConfigError: the sweep's run is to be begun, and the store cannot be reached.
        """
        if self._tracker is None and all(trial.is_finished for trial in trials):
            return tuple(trials)
        parent = (self._tracker or self._begin()).run_id
        return tuple(_placed(trial, self._store, parent) for trial in trials)

    def conclude(self, outcome: SweepResult) -> None:
        """Tell what the sweep came to, once its files are written; equal numbers are there once."""
        if self._tracker is None:
            return
        texts = {"answer": outcome.answer, "reference": outcome.reference or "", "unplayed": outcome.unplayed}
        self._tracker.tags(texts)
        # What is known of the cells grows with the trials that finished, in however many sessions.
        finished = sum(entry.status == "finished" for entry in outcome.entries)
        self._tracker.log({**cell_metrics(outcome), "finished_trials": finished}, finished)
        for path in (self._folder.book, *self._folder.tables, self._folder.figures):
            if path.exists():
                self._tracker.artifact(path)

    def close(self, entries: Sequence[TrialEntry], ending: Ending) -> None:
        """End the run and those of its trials that could not end theirs; what the store takes not, stays.

        Args:
            entries: of the trials.
            ending: of this session.
        """
        if self._tracker is None:
            return
        self._tracker.close(ending)
        for entry in entries:
            if entry.status != "finished":
                _end(entry, self._folder)

    def _begin(self) -> MlflowTracker:
        sweep = self._sweep
        self._tracker = begin_sweep_tracking(
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
    """Give the numbers of each cell as metrics, such as `interquartile_mean/alpha_0.5`; NaN is left out."""
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
    """Mark a trial's MLflow run as ended, and send what waits; its process, killed, could not."""
    run, trial_id = entry.trial.folder, entry.trial.id
    if not (run.config_file.is_file() and run.outbox.is_file()):
        return
    try:
        with locked(folder.lock(trial_id), "another process trains this trial, and will end its run"):
            tracker = open_tracking(RunConfig.read(run.config_file), run, drain_seconds=_DRAIN_SECONDS)
            tracker.close("failed" if entry.status == "failed" else "stopped")
    except ConfigError as error:
        _LOG.warning("%s", error)


def _placed(trial: Trial, store: str, parent: str) -> Trial:
    file = trial.folder.config_file
    if file.is_file() and file.stat().st_size:
        began = RunConfig.read(file)
        place = {"tracking_uri": began.tracking_uri, "tracking_parent": began.tracking_parent}
    else:
        place = {"tracking_uri": store, "tracking_parent": parent}
    return replace(trial, config=trial.config.model_copy(update=place))


def _describe_options(dimension: Dimension) -> str:
    span = dimension.span
    if span is None:
        return ", ".join(dimension.options)
    return f"{span.low:g} to {span.high:g}{', by orders of magnitude' if span.log else ''}"
