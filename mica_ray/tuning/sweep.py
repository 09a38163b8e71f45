"""Sweep: what a sweep file defines. Only values: tune_trials.py trains it, sweep_result.py compares it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mica_ray.config.references import nearest
from mica_ray.config.run_config import RunConfig
from mica_ray.training.metrics import METRICS
from mica_ray.tuning.space import Dimension, Options

EVALUATED: Mapping[str, str] = {
    "eval_epm_q": "epm_q",
    "eval_pass_fraction": "pass_fraction",
    "eval_idr_mean": "idr",
}
"""Metrics that an evaluation gives for every scenario, and the fields they are read from."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Every combination of the options."""


@dataclass(frozen=True, slots=True)
class Random:
    """Cells drawn at random, each key by itself; the same ones whenever the seed is the same."""

    num_cells: int
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a search for nothing."""
        if self.num_cells < 1:
            raise ValueError(f"num_cells must be >= 1; got {self.num_cells}")


@dataclass(frozen=True, slots=True)
class Optuna:
    """Cells that Optuna's TPE proposes from the metric of the cells before, in rounds.

    All trials of a round are over before the next is proposed: what is proposed then follows from the seed
    and the results, whichever trial ended first, and a sweep that was interrupted proposes it again.
    """

    num_cells: int
    round_size: int = 4
    """Cells proposed together; each is played under every seed."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a search for nothing."""
        for name in ("num_cells", "round_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Asha:
    """Stop the worse trials early (asynchronous successive halving, Li et al. 2018), by a metric of steps."""

    metric: str = "idr_mean"
    """Logged at every step; read after each."""
    mode: Literal["max", "min"] = "max"
    grace_steps: int = 5
    """Steps that every trial does."""
    reduction: float = 3.0
    """One in so many goes on at each rung."""

    def __post_init__(self) -> None:
        """Refuse rungs that cannot be climbed."""
        if self.grace_steps < 1:
            raise ValueError(f"grace_steps must be >= 1; got {self.grace_steps}")
        if self.reduction <= 1:
            raise ValueError(f"reduction must be > 1; got {self.reduction}")


@dataclass(frozen=True, slots=True)
class Pbt:
    """Let worse trials go on from the checkpoints of better ones, keys perturbed (Jaderberg et al. 2017).

    A trial's cell is where it begins. The base's loop.checkpoint_every must divide `every_steps`.
    """

    metric: str = "idr_mean"
    """Logged at every step."""
    mode: Literal["max", "min"] = "max"
    every_steps: int = 5
    """Steps between two comparisons."""

    def __post_init__(self) -> None:
        """Refuse comparisons that never come."""
        if self.every_steps < 1:
            raise ValueError(f"every_steps must be >= 1; got {self.every_steps}")


@dataclass(frozen=True, slots=True)
class SweepBudget:
    """What a sweep may take over all its sessions; trials under way are stopped behind their checkpoints."""

    trials: int | None = None
    """Trials at most; the seeds of all cells come in turn, so that what is cut is cut evenly."""
    hours: float | None = None
    """Of the clock."""
    gpu_hours: float | None = None
    """GPUs of a trial times its hours, over all trials; engines of role models that trials share are counted
    with each of them."""
    judge_usd: float | None = None
    """Price of all role models' calls, evaluations included."""

    def __post_init__(self) -> None:
        """Refuse budgets of nothing."""
        for name in ("trials", "hours", "gpu_hours", "judge_usd"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0 or None; got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Sweep:
    """A question, and the trials that answer it: every cell of the space under every seed.

    Raises:
        ValueError: names the field and what is allowed.
    """

    name: str
    """Of its folder and of its tracked runs."""
    question: str
    """One sentence that the last line of the sweep answers."""
    space: Mapping[str, Options]
    """Options by dotted key of RunConfig: numbers, texts, or whole objects such as estimators and judges."""
    base: RunConfig = field(default_factory=RunConfig)
    """What all cells share."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """RunConfig.seed of each cell's trials."""
    metric: str = "eval_epm_q"
    """What cells are compared by: of the last evaluation, by scenario; another metric, by its last step."""
    mode: Literal["max", "min"] = "max"
    """Whether more of the metric is better, or less."""
    curve: str = "idr_mean"
    """Metric of steps that the learning curves show."""
    reference: str | None = None
    """Name of the cell that the others are compared with; None for the best of them."""
    search: Grid | Random | Optuna = Grid()
    scheduler: Asha | Pbt | None = None
    budget: SweepBudget = SweepBudget()
    inline: bool | None = None
    """Whether a trial is one process without engines of its own (`mica train --inline`). None: yes on one
    machine; on a cluster, which RAY_ADDRESS names, each trial has engines and a learner of its own."""
    cpus: float = 1.0
    """Of an inline trial, or of the process that drives a trial on Ray."""
    retries: int = 1
    """How often a failed trial goes on from its checkpoint before it is given up."""

    def __post_init__(self) -> None:
        """Refuse what could only fail after hours."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(f"name must be letters, digits, '.', '_' and '-'; got {self.name!r}")
        if not self.space:
            raise ValueError("space is empty; give at least one key of RunConfig with its options")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be one or more, each once; got {self.seeds}")
        if self.mode not in ("max", "min"):
            raise ValueError(f"mode must be max or min; got {self.mode!r}")
        if self.retries < 0:
            raise ValueError(f"retries must be >= 0; got {self.retries}")
        if not self.cpus > 0:
            raise ValueError(f"cpus must be > 0; got {self.cpus}")
        own = {"seed", "out", "name"} & self.space.keys()
        if own:
            raise ValueError(f"space must not hold {', '.join(sorted(own))}: they are the sweep's own")
        spans = [dimension.key for dimension in self.dimensions if dimension.span is not None]
        if spans and isinstance(self.search, Grid):
            raise ValueError(f"space[{spans[0]!r}] is a Span, of which no grid is made; use Random or Optuna")
        self._check_metrics()

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The keys of the space, in its order."""
        return tuple(Dimension.read(key, options) for key, options in self.space.items())

    def _check_metrics(self) -> None:
        for name, metric in (("metric", self.metric), ("curve", self.curve)):
            if metric not in METRICS:
                raise ValueError(f"{name}: no run logs {metric!r}; {nearest(metric, list(METRICS))}")
        if self.curve.startswith("eval_"):
            raise ValueError(f"curve must be a metric of steps; got {self.curve!r}")
        if self.metric.startswith("eval_") and self.metric not in EVALUATED:
            raise ValueError(f"metric must be of steps or one of {', '.join(EVALUATED)}; got {self.metric!r}")
        if self.scheduler is None:
            return
        watched = self.scheduler.metric
        if watched not in METRICS:
            raise ValueError(f"scheduler.metric: no run logs {watched!r}; {nearest(watched, list(METRICS))}")
        if watched.startswith("eval_") and not self.base.loop.evaluate_every:
            raise ValueError(
                f"scheduler.metric: {watched} is logged during training only with loop.evaluate_every > 0"
            )
        if isinstance(self.scheduler, Pbt) and (
            not self.base.loop.checkpoint_every
            or self.scheduler.every_steps % self.base.loop.checkpoint_every
        ):
            raise ValueError(
                f"scheduler.every_steps={self.scheduler.every_steps} must be a multiple of "
                f"loop.checkpoint_every; got {self.base.loop.checkpoint_every}"
            )
