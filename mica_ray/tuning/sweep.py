"""Sweep: what a sweep file defines. Only values: tune_trials.py trains it, sweep_result.py compares it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mica_ray.checks import above, at_least, one_of
from mica_ray.config.references import nearest
from mica_ray.config.run_config import RunConfig
from mica_ray.training.metrics import METRICS
from mica_ray.tuning.space import Dimension, Options

EVALUATED: Mapping[str, str] = {
    "eval_epm_q": "epm_q",
    "eval_pass_fraction": "pass_fraction",
    "eval_idr_mean": "idr",
}
"""Metrics that an evaluation reports per scenario, and the field of its rows for each."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Search every combination of the options."""


@dataclass(frozen=True, slots=True)
class Random:
    """Search cells drawn at random, each key independently. Equal seeds draw equal cells."""

    num_cells: int
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        at_least(1, num_cells=self.num_cells)


@dataclass(frozen=True, slots=True)
class Optuna:
    """Search cells that Optuna's TPE proposes, in rounds, from the metric of earlier cells.

    A round is proposed only after all trials of the previous one have ended. Proposals therefore depend on
    the seed and the scores, not on which trial ends first, and a resumed sweep proposes the same cells.
    """

    num_cells: int
    round_size: int = 4
    """Cells proposed per round; each is trained with every seed."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        at_least(1, num_cells=self.num_cells, round_size=self.round_size)


@dataclass(frozen=True, slots=True)
class Asha:
    """Stop the worse trials early by a training metric (asynchronous successive halving, Li et al. 2018)."""

    metric: str = "idr_mean"
    """Compared at every rung. An evaluation metric needs loop.evaluate_every > 0."""
    mode: Literal["max", "min"] = "max"
    grace_steps: int = 5
    """Steps before a trial can be stopped."""
    reduction: float = 3.0
    """At each rung, one trial in `reduction` continues."""

    def __post_init__(self) -> None:
        """Check the values."""
        at_least(1, grace_steps=self.grace_steps)
        above(1, reduction=self.reduction)


@dataclass(frozen=True, slots=True)
class Pbt:
    """Population based training (Jaderberg et al. 2017).

    Worse trials continue from the checkpoints of better ones, with perturbed values. A trial's cell holds its
    initial values. The base's loop.checkpoint_every must divide `every_steps`.
    """

    metric: str = "idr_mean"
    """An evaluation metric needs loop.evaluate_every > 0."""
    mode: Literal["max", "min"] = "max"
    every_steps: int = 5
    """Steps between two comparisons."""

    def __post_init__(self) -> None:
        """Check the values."""
        at_least(1, every_steps=self.every_steps)


@dataclass(frozen=True, slots=True)
class SweepBudget:
    """Limits of a sweep over all its sessions (None: no limit). Trials stop when one is reached."""

    trials: int | None = None
    """Maximum number of trials. All cells get a seed before any gets the next, so that a cut is even."""
    hours: float | None = None
    """Wall-clock hours."""
    gpu_hours: float | None = None
    """GPUs of a trial times its hours, summed over the trials. Role model engines that the trials share are
    counted in each of them."""
    judge_usd: float | None = None
    """Price in USD of all calls to role models, including evaluations."""

    def __post_init__(self) -> None:
        """Check the values."""
        limits = {"trials": self.trials, "hours": self.hours, "gpu_hours": self.gpu_hours}
        limits["judge_usd"] = self.judge_usd
        above(0, **{name: limit for name, limit in limits.items() if limit is not None})


@dataclass(frozen=True, slots=True)
class Sweep:
    """A question, and the trials that answer it: every cell of the space with every seed.

    Raises:
        ValueError: a field is invalid. The message names the field and the rule.
    """

    name: str
    """Name of the sweep's folder and of its tracked runs."""
    question: str
    """One sentence; the line "answer" of the sweep's output answers it."""
    space: Mapping[str, Options]
    """Options by dotted key of RunConfig: numbers, strings, or objects such as estimators and judges."""
    base: RunConfig = field(default_factory=RunConfig)
    """Config that all cells share."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Values of RunConfig.seed; each cell is trained with each."""
    metric: str = "eval_epm_q"
    """Metric that compares cells. An evaluation metric is read per scenario from the last evaluation, a
    training metric from the last step."""
    mode: Literal["max", "min"] = "max"
    """Whether a higher or a lower metric is better."""
    curve: str = "idr_mean"
    """Training metric that the learning curves show."""
    reference: str | None = None
    """Name of the cell that the others are compared with; None: the best cell."""
    search: Grid | Random | Optuna = Grid()
    scheduler: Asha | Pbt | None = None
    budget: SweepBudget = SweepBudget()
    inline: bool | None = None
    """Whether a trial is one process without engines of its own (`mica train --inline`). None: True on one
    machine; False on a cluster named by RAY_ADDRESS, where each trial has its own engines and learner."""
    cpus: float = 1.0
    """CPUs of an inline trial, or of the driver process of a trial on Ray."""
    retries: int = 1
    """How often a failed trial is retried from its checkpoint."""

    def __post_init__(self) -> None:
        """Check everything that would otherwise fail only after hours of training."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(
                f"name must start with a letter or digit and contain only letters, digits, '.', '_' and '-', "
                f"got {self.name!r}."
            )
        if not self.space:
            raise ValueError("space is empty. Add at least one key of RunConfig with its options.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be one or more different integers, got {self.seeds}.")
        one_of(("max", "min"), mode=self.mode)
        at_least(0, retries=self.retries)
        above(0, cpus=self.cpus)
        own = {"seed", "out", "name"} & self.space.keys()
        if own:
            raise ValueError(
                f"space must not contain {', '.join(sorted(own))}, which the sweep sets. "
                "Use the fields seeds and name."
            )
        spans = [dimension.key for dimension in self.dimensions if dimension.span is not None]
        if spans and isinstance(self.search, Grid):
            raise ValueError(
                f"space[{spans[0]!r}] is a Span, which Grid cannot enumerate. List values, or use Random or "
                "Optuna."
            )
        self._check_metrics()

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The keys of the space with their values, in order."""
        return tuple(Dimension.read(key, options) for key, options in self.space.items())

    def _check_metrics(self) -> None:
        for name, metric in (("metric", self.metric), ("curve", self.curve)):
            _check_logged(name, metric)
        if self.curve.startswith("eval_"):
            raise ValueError(f"curve must be a training metric, got the evaluation metric {self.curve!r}.")
        if self.metric.startswith("eval_") and self.metric not in EVALUATED:
            raise ValueError(
                f"metric must be a training metric or one of {', '.join(EVALUATED)}, got {self.metric!r}."
            )
        if self.scheduler is not None:
            self._check_scheduler(self.scheduler)

    def _check_scheduler(self, scheduler: Asha | Pbt) -> None:
        loop = self.base.loop
        _check_logged("scheduler.metric", scheduler.metric)
        if scheduler.metric.startswith("eval_") and not loop.evaluate_every:
            raise ValueError(
                f"scheduler.metric={scheduler.metric} is not logged during training. Set loop.evaluate_every "
                "> 0, or choose a training metric."
            )
        if isinstance(scheduler, Pbt) and (
            not loop.checkpoint_every or scheduler.every_steps % loop.checkpoint_every
        ):
            raise ValueError(
                f"scheduler.every_steps={scheduler.every_steps} must be a multiple of loop.checkpoint_every, "
                f"got loop.checkpoint_every={loop.checkpoint_every}."
            )


def _check_logged(name: str, metric: str) -> None:
    if metric not in METRICS:
        raise ValueError(f"{name}: no run logs {metric!r}. {nearest(metric, list(METRICS))}")
