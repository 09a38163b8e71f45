"""What the process of a trial does: `run.run_training` in its folder, and reporting to Ray Tune.

Imported by the workers; who starts them is tune_trials.py.
"""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ray import tune

from mica_ray.config.overrides import validated, with_values
from mica_ray.config.run_config import RunConfig
from mica_ray.launch import run
from mica_ray.tracking.tracker import Ending
from mica_ray.tuning.folder_lock import locked
from mica_ray.tuning.space import split_joint

TRIAL, STEPS = "trial", "steps_done"
"""Names among what Tune is given and told: the trial's id, and the steps behind it."""
_LOCK_SECONDS = 180.0
"""Longest wait for the process that trained a folder before to be gone."""


@dataclass(frozen=True, slots=True)
class TrialOrder:
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


def train_trial(settings: dict[str, object], orders: Mapping[str, TrialOrder]) -> None:
    """Train one trial, from where its folder stands; in a process of its own."""
    order = orders[str(settings[TRIAL])]
    config = validated(RunConfig, json.loads(order.config))
    config = with_values(config, split_joint({key: settings[key] for key in order.perturbed}))
    # One whose sweep was killed may take a while to go.
    refusal = "another process trains this trial; end it first"
    with locked(order.lock, refusal, wait_seconds=_LOCK_SECONDS):
        _take_over(order, str(settings[TRIAL]))
        resume = order.folder if (order.folder / "config.json").is_file() else None
        try:
            run.run_training(
                config,
                inline=order.inline,
                resume=resume,
                tracker=_TuneTracker(order),
                roles_shared=not order.inline,
            )
        except Exception:
            order.error.parent.mkdir(exist_ok=True)
            order.error.write_text(traceback.format_exc())
            raise


def _take_over(order: TrialOrder, trial_id: str) -> None:
    """Put another trial's checkpoint in the place of one's own, where Tune says so."""
    given = tune.get_checkpoint() if order.perturbed else None
    if given is None or given.get_metadata().get(TRIAL) == trial_id:
        return  # Our own folder is never behind what we gave Tune of it.
    checkpoints = order.folder / "checkpoints"
    shutil.rmtree(checkpoints, ignore_errors=True)
    given.to_directory(str(checkpoints / given.get_metadata()["name"]))


class _TuneTracker:
    """Tells Tune of every step, and of checkpoints where trials may go on from each other's."""

    def __init__(self, order: TrialOrder) -> None:
        self._order = order
        self._told = ""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Report the metrics."""
        done = step + 1 if "loss" in metrics else step
        tune.report({**metrics, "step": step, STEPS: done}, checkpoint=self._new_checkpoint())

    def artifact(self, path: Path) -> None:
        """Files lie in the trial's folder."""

    def close(self, ending: Ending = "finished") -> None:
        """Nothing is held; Tune sees the end of the process."""

    def _new_checkpoint(self) -> tune.Checkpoint | None:
        if not self._order.perturbed:
            return None
        found = sorted((self._order.folder / "checkpoints").glob("step-*"))
        if not found or found[-1].name == self._told:
            return None
        self._told = found[-1].name
        checkpoint = cast(tune.Checkpoint, tune.Checkpoint.from_directory(str(found[-1])))
        checkpoint.set_metadata({TRIAL: self._order.folder.name, "name": found[-1].name})
        return checkpoint
