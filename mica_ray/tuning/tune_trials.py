"""Run trials with Ray Tune: scheduling, resources, retries and early stopping.

tuning/trial_process.py is the code inside a trial's process. Tune's own files are never read back: the
trials' folders show what is left to do.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ray import tune
from ray.exceptions import RayActorError, RayTaskError

from mica_ray.tuning.resources import trial_bundles
from mica_ray.tuning.space import Dimension
from mica_ray.tuning.sweep import Asha, Pbt, Sweep
from mica_ray.tuning.sweep_folder import SweepFolder
from mica_ray.tuning.trial import Trial
from mica_ray.tuning.trial_book import EARLY, TrialBook
from mica_ray.tuning.trial_process import STEPS, TRIAL, TrialOrder, train_trial

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.search.sample import Domain

_TUNE_SETTINGS = (
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS",  # The trials' folders already contain every metric.
    "TUNE_DISABLE_SIGINT_HANDLER",  # Ctrl-C ends the sweep, which can be resumed.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING",  # Evaluations and steps are reported separately.
)


def run_trials(
    sweep: Sweep,
    trials: Sequence[Trial],
    book: TrialBook,
    *,
    folder: SweepFolder,
    inline: bool,
    concurrency: int,
) -> None:
    """Run trials until each has ended or the budget is used up. Ray must be running.

    Args:
        sweep: the sweep.
        trials: unfinished trials of the sweep.
        book: records what happens.
        folder: the sweep's folder, visible on every node.
        inline: whether a trial is one process.
        concurrency: maximum number of trials at a time.
    """
    for name in _TUNE_SETTINGS:
        os.environ.setdefault(name, "1")
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    is_pbt = isinstance(sweep.scheduler, Pbt)
    orders = {trial.id: _order(trial, folder, inline=inline, is_pbt=is_pbt) for trial in trials}
    # Plain dicts: the trials' processes must be able to unpickle them without importing the sweep file.
    bundles = {
        trial.id: [dict(bundle) for bundle in trial_bundles(trial.config, inline=inline, cpus=sweep.cpus)]
        for trial in trials
    }

    def resources(settings: Mapping[str, object]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory(bundles[str(settings[TRIAL])])

    values = {trial.id: trial.cell.values for trial in trials}
    beginnings = {
        # Tune's spec has its keys as attributes, contrary to its annotation.
        key: tune.sample_from(lambda spec, key=key: values[getattr(spec, "config")[TRIAL]][key])  # noqa: B009
        for key in (sweep.space if is_pbt else ())
    }
    scratch = folder.path / "tune"
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train_trial, orders=orders), resources),
        param_space={TRIAL: tune.grid_search(list(orders)), **beginnings},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=concurrency,
            scheduler=_scheduler(sweep, trials[0].config.loop.num_steps),
            trial_dirname_creator=lambda trial: f"{trial.config[TRIAL]}"[:80],
            reuse_actors=False,
        ),
        run_config=tune.RunConfig(
            name=f"session-{time.time_ns()}",
            storage_path=str(scratch.absolute()),
            failure_config=tune.FailureConfig(max_failures=sweep.retries),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            callbacks=[_BookKeeper(book)],
            stop=_BudgetStop(book),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for trial in trials:
        book.ended(trial.id, "stopped", book.exceeded_limit() or "the session ended")


def _order(trial: Trial, folder: SweepFolder, *, inline: bool, is_pbt: bool) -> TrialOrder:
    return TrialOrder(
        config=trial.config.model_dump_json(),
        folder=trial.folder.path,
        lock=folder.lock(trial.id).absolute(),
        error=folder.error(trial.id).absolute(),
        inline=inline,
        perturbed=tuple(trial.cell.values) if is_pbt else (),
    )


class _BookKeeper(tune.Callback):
    """Records Tune's events in the book."""

    def __init__(self, book: TrialBook) -> None:
        self._book = book

    def __getstate__(self) -> dict[str, object]:
        """Exclude the book from the state that Tune stores, which is never read."""
        return {}

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object
    ) -> None:
        """Record the start."""
        self._book.started(_id(trial))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, object],
        **info: object,
    ) -> None:
        """Record a step's metrics."""
        if "step" in result:
            numbers = {name: float(value) for name, value in result.items() if isinstance(value, int | float)}
            self._book.reported(_id(trial), cast(int, result["step"]), numbers)

    def on_trial_recover(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object
    ) -> None:
        """Record a failure after which the trial continues."""
        self._book.failed_once(_id(trial), _reason(trial))

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object
    ) -> None:
        """Record a failure that ended the trial."""
        self._book.ended(_id(trial), "failed", _reason(trial))

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object
    ) -> None:
        """Record the end: the run finished, or the scheduler or the budget stopped it."""
        entry = next(entry for entry in self._book.entries if entry.trial.id == _id(trial))
        if entry.trial.is_finished:
            self._book.ended(entry.trial.id, "finished")
        else:
            self._book.ended(entry.trial.id, "stopped", self._book.exceeded_limit() or EARLY)


class _BudgetStop(tune.Stopper):
    """Stops all trials when the sweep's budget is used up."""

    def __init__(self, book: TrialBook) -> None:
        self._book = book

    def __getstate__(self) -> dict[str, object]:
        """Exclude the book from the state that Tune stores, which is never read."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        """Return False: no trial is stopped on its own."""
        return False

    def stop_all(self) -> bool:
        """Return whether the budget is used up."""
        return self._book.exceeded_limit() is not None


def _scheduler(sweep: Sweep, num_steps: int) -> TrialScheduler | None:
    from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining

    match sweep.scheduler:
        case Asha() as asha:
            return ASHAScheduler(
                time_attr=STEPS,
                metric=asha.metric,
                mode=asha.mode,
                max_t=num_steps + 1,  # Leaves room for the evaluation after the last step.
                grace_period=asha.grace_steps,
                reduction_factor=asha.reduction,
            )
        case Pbt() as pbt:
            return PopulationBasedTraining(
                time_attr=STEPS,
                metric=pbt.metric,
                mode=pbt.mode,
                perturbation_interval=pbt.every_steps,
                hyperparam_mutations={dimension.key: _mutation(dimension) for dimension in sweep.dimensions},
                require_attrs=False,  # An evaluation is reported without step metrics.
            )
        case None:
            return None


def _mutation(dimension: Dimension) -> list[object] | Domain:
    if dimension.span is None:
        return list(dimension.options.values())
    low, high = dimension.span.low, dimension.span.high
    return tune.loguniform(low, high) if dimension.span.log else tune.uniform(low, high)


def _id(trial: TuneTrial) -> str:
    return str(trial.config[TRIAL])


def _reason(trial: TuneTrial) -> str:
    """Return a trial's failure as one line."""
    # Tune's own reader looks in the folder to which the file is copied only later.
    path = trial.pickled_error_file
    error = pickle.loads(Path(path).read_bytes()) if path and Path(path).is_file() else None
    if isinstance(error, RayTaskError):
        error = getattr(error, "cause", error)
    if isinstance(error, RayActorError):
        return "its process died: " + (str(error).strip().splitlines() or ["no message"])[-1].strip()
    if error is None:
        return "unknown reason"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
