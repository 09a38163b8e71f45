"""Play trials with Ray Tune: when each starts, on which resources, again after a failure, stopped early.

What a trial does is `run.train`, in its own folder, where it also goes on. Nothing that Tune writes down is
read again: a session knows from the folders what is left to do.
"""

from __future__ import annotations

import fcntl
import logging
import os
import pickle
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ray import tune
from ray.exceptions import RayActorError, RayTaskError

from mica_ray import run
from mica_ray.config.overrides import validated, with_values
from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.tuning.resources import trial_bundles
from mica_ray.tuning.space import Axis, split_joint
from mica_ray.tuning.sweep import Asha, Pbt, Sweep
from mica_ray.tuning.trial import Trial
from mica_ray.tuning.trial_book import EARLY, TrialBook

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.search.sample import Domain

_LOCK_SECONDS = 180.0
"""Longest wait for the process that trained a folder before to be gone."""
_TRIAL, _STEPS = "trial", "steps_done"
_TUNE_SETTINGS = (
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS",  # The trials' folders hold every metric already.
    "TUNE_DISABLE_SIGINT_HANDLER",  # Ctrl-C ends the sweep; it can be resumed.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING",  # Evaluations and steps are reported apart.
)


@dataclass(frozen=True, slots=True)
class _Order:
    """What the process of a trial is told."""

    config: str
    """JSON of a RunConfig."""
    folder: Path
    lock: Path
    error: Path
    """Where the traceback of a failure goes; not into the run folder, which may not be there yet."""
    inline: bool
    perturbed: tuple[str, ...]
    """Keys whose values population based training may change on the way."""


def play_trials(
    sweep: Sweep, trials: Sequence[Trial], book: TrialBook, *, folder: Path, inline: bool, at_once: int
) -> None:
    """Play trials until each is finished, stopped or failed, or until the budget is used up. Ray must run.

    Args:
        sweep: whose trials they are.
        trials: none of them finished.
        book: told of what happens.
        folder: of the sweep, visible on every node.
        inline: whether a trial is one process.
        at_once: most trials at once.
    """
    for name in _TUNE_SETTINGS:
        os.environ.setdefault(name, "1")
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    is_pbt = isinstance(sweep.scheduler, Pbt)
    orders = {trial.id: _order(trial, folder, inline=inline, is_pbt=is_pbt) for trial in trials}
    # Plain dicts: what the trials' processes are sent must not need the sweep file to be read.
    bundles = {
        trial.id: [dict(bundle) for bundle in trial_bundles(trial.config, inline=inline, cpus=sweep.cpus)]
        for trial in trials
    }

    def resources(settings: Mapping[str, object]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory(bundles[str(settings[_TRIAL])])

    values = {trial.id: trial.cell.values for trial in trials}
    beginnings = {
        key: tune.sample_from(lambda spec, key=key: values[spec.config[_TRIAL]][key])
        for key in (sweep.space if is_pbt else ())
    }
    scratch = folder / "tune"
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_train_trial, orders=orders), resources),
        param_space={_TRIAL: tune.grid_search(list(orders)), **beginnings},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=at_once,
            scheduler=_scheduler(sweep, trials[0].config.loop.num_steps),
            trial_dirname_creator=lambda trial: f"{trial.config[_TRIAL]}"[:80],
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
        book.ended(trial.id, "stopped", book.excess() or "the session ended")


def _order(trial: Trial, folder: Path, *, inline: bool, is_pbt: bool) -> _Order:
    return _Order(
        config=trial.config.model_dump_json(),
        folder=trial.folder.path,
        lock=(folder / "locks" / trial.id).absolute(),
        error=(folder / "errors" / f"{trial.id}.txt").absolute(),
        inline=inline,
        perturbed=tuple(trial.cell.values) if is_pbt else (),
    )


def _train_trial(settings: dict[str, object], orders: Mapping[str, _Order]) -> None:
    """Train one trial, from where its folder stands; in a process of its own."""
    import json

    order = orders[str(settings[_TRIAL])]
    config = validated(RunConfig, json.loads(order.config))
    config = with_values(config, split_joint({key: settings[key] for key in order.perturbed}))
    with _locked(order.lock):
        _take_over(order, str(settings[_TRIAL]))
        resume = order.folder if (order.folder / "config.json").is_file() else None
        try:
            run.train(config, inline=order.inline, resume=resume, tracker=_TuneTracker(order))
        except Exception:
            order.error.parent.mkdir(exist_ok=True)
            order.error.write_text(traceback.format_exc())
            raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process trains in the folder: one whose sweep was killed may take a while to go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _LOCK_SECONDS
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConfigError(f"{path}: another process trains this trial; end it first") from None
                time.sleep(0.2)
        yield


def _take_over(order: _Order, trial_id: str) -> None:
    """Put another trial's checkpoint in the place of one's own, where Tune says so."""
    given = tune.get_checkpoint() if order.perturbed else None
    if given is None or given.get_metadata().get(_TRIAL) == trial_id:
        return  # Our own folder is never behind what we gave Tune of it.
    checkpoints = order.folder / "checkpoints"
    shutil.rmtree(checkpoints, ignore_errors=True)
    given.to_directory(str(checkpoints / given.get_metadata()["name"]))


class _TuneTracker:
    """Tells Tune of every step, and of checkpoints where trials may go on from each other's."""

    def __init__(self, order: _Order) -> None:
        self._order = order
        self._told = ""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Report the metrics."""
        done = step + 1 if "loss" in metrics else step
        tune.report({**metrics, "step": step, _STEPS: done}, checkpoint=self._new_checkpoint())

    def artifact(self, path: Path) -> None:
        """Files lie in the trial's folder."""

    def close(self) -> None:
        """Nothing is held."""

    def _new_checkpoint(self) -> tune.Checkpoint | None:
        if not self._order.perturbed:
            return None
        found = sorted((self._order.folder / "checkpoints").glob("step-*"))
        if not found or found[-1].name == self._told:
            return None
        self._told = found[-1].name
        checkpoint = cast(tune.Checkpoint, tune.Checkpoint.from_directory(str(found[-1])))
        checkpoint.set_metadata({_TRIAL: self._order.folder.name, "name": found[-1].name})
        return checkpoint


class _BookKeeper(tune.Callback):
    """Writes into the book what Tune tells of its trials."""

    def __init__(self, book: TrialBook) -> None:
        self._book = book

    def __getstate__(self) -> dict[str, object]:
        """Leave the book out of what Tune stores of itself, which nobody reads."""
        return {}

    def on_trial_start(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object
    ) -> None:
        """Note the start."""
        self._book.started(_id(trial))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[str, object],
        **info: object,
    ) -> None:
        """Note a step's metrics."""
        if "step" in result:
            numbers = {name: float(value) for name, value in result.items() if isinstance(value, int | float)}
            self._book.reported(_id(trial), cast(int, result["step"]), numbers)

    def on_trial_recover(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object
    ) -> None:
        """Note a failure after which the trial goes on."""
        self._book.failed_once(_id(trial), _reason(trial))

    def on_trial_error(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object
    ) -> None:
        """Note a failure after which it does not."""
        self._book.ended(_id(trial), "failed", _reason(trial))

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: object
    ) -> None:
        """Note the end: of the run, or of the scheduler's patience."""
        entry = next(entry for entry in self._book.entries if entry.trial.id == _id(trial))
        if entry.trial.is_finished:
            self._book.ended(entry.trial.id, "finished")
        else:
            self._book.ended(entry.trial.id, "stopped", self._book.excess() or EARLY)


class _BudgetStop(tune.Stopper):
    """Stops all trials once the sweep's budget is used up."""

    def __init__(self, book: TrialBook) -> None:
        self._book = book

    def __getstate__(self) -> dict[str, object]:
        """Leave the book out of what Tune stores of itself, which nobody reads."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        """Stop no trial by itself."""
        return False

    def stop_all(self) -> bool:
        """Say whether there is nothing left."""
        return self._book.excess() is not None


def _scheduler(sweep: Sweep, num_steps: int) -> TrialScheduler | None:
    from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining

    match sweep.scheduler:
        case Asha() as asha:
            return ASHAScheduler(
                time_attr=_STEPS,
                metric=asha.metric,
                mode=asha.mode,
                max_t=num_steps + 1,  # The evaluation after the last step is awaited.
                grace_period=asha.grace_steps,
                reduction_factor=asha.reduction,
            )
        case Pbt() as pbt:
            return PopulationBasedTraining(
                time_attr=_STEPS,
                metric=pbt.metric,
                mode=pbt.mode,
                perturbation_interval=pbt.every_steps,
                hyperparam_mutations={axis.key: _mutation(axis) for axis in sweep.axes},
                require_attrs=False,  # An evaluation is reported by itself.
            )
        case None:
            return None


def _mutation(axis: Axis) -> list[object] | Domain:
    if axis.span is None:
        return list(axis.options.values())
    low, high = axis.span.low, axis.span.high
    return tune.loguniform(low, high) if axis.span.log else tune.uniform(low, high)


def _id(trial: TuneTrial) -> str:
    return str(trial.config[_TRIAL])


def _reason(trial: TuneTrial) -> str:
    """Put a trial's failure into one line."""
    # Tune's own reader looks where the file is copied later.
    path = trial.pickled_error_file
    error = pickle.loads(Path(path).read_bytes()) if path and Path(path).is_file() else None
    if isinstance(error, RayTaskError):
        error = getattr(error, "cause", error)
    if isinstance(error, RayActorError):
        return "its process died: " + (str(error).strip().splitlines() or ["no message"])[-1].strip()
    if error is None:
        return "unknown"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
