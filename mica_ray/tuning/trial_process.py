"""The process of a trial: trains in the trial's folder and reports each step to Ray Tune.

Ray's workers import this file; tuning/tune_trials.py starts them.
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
"""Keys in Tune's config and reports: the trial's id, and the number of steps done."""
_LOCK_SECONDS = 180.0
"""Longest wait for an earlier process of the same trial to end."""


@dataclass(frozen=True, slots=True)
class TrialOrder:
    """Everything that the process of a trial needs."""

    config: str
    """RunConfig as JSON."""
    folder: Path
    lock: Path
    error: Path
    """File for the traceback of a failure. Not in the run folder, which may not exist yet."""
    inline: bool
    perturbed: tuple[str, ...]
    """Keys whose values population based training may change."""


def train_trial(settings: dict[str, object], orders: Mapping[str, TrialOrder]) -> None:
    """Train one trial in this process, resuming from its folder if there is one."""
    order = orders[str(settings[TRIAL])]
    config = validated(RunConfig, json.loads(order.config))
    config = with_values(config, split_joint({key: settings[key] for key in order.perturbed}))
    # After a sweep was killed, its trial processes may take a while to end.
    refusal = "Another process is training this trial. Stop it first."
    with locked(order.lock, refusal, wait_seconds=_LOCK_SECONDS):
        _copy_checkpoint(order, str(settings[TRIAL]))
        resume = order.folder if (order.folder / "config.json").is_file() else None
        try:
            run.run_training(
                run.check(config, inline=order.inline),
                resume=resume,
                tracker=_TuneTracker(order),
                roles_shared=not order.inline,
            )
        except Exception:
            order.error.parent.mkdir(exist_ok=True)
            order.error.write_text(traceback.format_exc())
            raise


def _copy_checkpoint(order: TrialOrder, trial_id: str) -> None:
    """Replace the trial's checkpoints by another trial's if Tune asks for it (population based training)."""
    given = tune.get_checkpoint() if order.perturbed else None
    if given is None or given.get_metadata().get(TRIAL) == trial_id:
        return  # The folder is at least as recent as the checkpoint that we reported to Tune.
    checkpoints = order.folder / "checkpoints"
    shutil.rmtree(checkpoints, ignore_errors=True)
    given.to_directory(str(checkpoints / given.get_metadata()["name"]))


class _TuneTracker:
    """Reports every step to Tune, and with population based training every checkpoint."""

    def __init__(self, order: TrialOrder) -> None:
        self._order = order
        self._last_reported = ""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Report the metrics."""
        done = step + 1 if "loss" in metrics else step
        tune.report({**metrics, "step": step, STEPS: done}, checkpoint=self._new_checkpoint())

    def artifact(self, path: Path) -> None:
        """Do nothing: files stay in the trial's folder."""

    def close(self, ending: Ending = "finished") -> None:
        """Do nothing: Tune notices the end of the process."""

    def _new_checkpoint(self) -> tune.Checkpoint | None:
        if not self._order.perturbed:
            return None
        found = sorted((self._order.folder / "checkpoints").glob("step-*"))
        if not found or found[-1].name == self._last_reported:
            return None
        self._last_reported = found[-1].name
        checkpoint = cast(tune.Checkpoint, tune.Checkpoint.from_directory(str(found[-1])))
        checkpoint.set_metadata({TRIAL: self._order.folder.name, "name": found[-1].name})
        return checkpoint
