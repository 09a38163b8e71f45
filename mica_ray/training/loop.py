"""The loop, which does not know whether Ray exists. All it uses comes built, in a `Run` (launch/run.py)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from mica_ray.credit.estimator import CreditEstimator
from mica_ray.credit.returns import discounted_returns
from mica_ray.packing import pack
from mica_ray.recordings.dialogue_log import DialogueLog
from mica_ray.rollout.engine import PolicyEngine
from mica_ray.tracking.tracker import Ending, Tracker
from mica_ray.training.checkpoint import Checkpoints, RandomState, RunState
from mica_ray.training.learner import Learner
from mica_ray.training.metrics import step_metrics
from mica_ray.training.scenario_order import ScenarioOrder
from mica_ray.types import Scenario, Stop, Trajectory, TurnRewards

Collect = Callable[[int, Sequence[Scenario], Callable[[Trajectory], None]], Awaitable[Sequence[Trajectory]]]
"""(step, scenarios, progress) -> the step's trajectories, failed ones as data.

`rollout.collect` with all but the step bound. `progress` is called with each dialogue as it ends."""

EvaluationCallback = Callable[[PolicyEngine], Awaitable[Mapping[str, float]]]
"""Measures the policy as the engine serves it; names start with "eval_"."""


class RolloutError(Exception):
    """The run must not go on: too much failed for the rest to be trained on, or a budget is used up.

    The message names the first reason and the remedy. Steps already done lie behind a checkpoint.
    """


class BudgetError(RolloutError):
    """The run must not go on for what it may spend; with more to spend, it can."""


def ending_of(error: BaseException | None) -> Ending:
    """Say how a run ended, by what ended it: an interruption and a used up budget are no failures."""
    if error is None:
        return "finished"
    return "failed" if isinstance(error, Exception) and not isinstance(error, BudgetError) else "stopped"


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How long the loop runs and what it does how often.

    The defaults are the released scripts' (one epoch of 727).
    """

    num_steps: int = 45
    scenarios_per_step: int = 16
    checkpoint_every: int = 10
    """Steps between checkpoints; the last step always makes one. 0: only the last."""
    keep_checkpoints: int = 2
    evaluate_every: int = 0
    """Steps between evaluations; 0: never."""
    max_failed_fraction: float = 0.5
    """The run stops when more than this share of a step's dialogues failed."""
    max_failed_judgement_fraction: float = 0.5
    """The run stops when more than this share of a step's judgements is missing."""
    max_failures_per_run: int | None = None
    """The run stops after the step with which more answers of the roles than this have failed, dialogues that
    were broken off included; None for no bound."""
    track_policy: bool = True
    """Whether the tracker gets a copy of the final policy folder."""

    def __post_init__(self) -> None:
        """Refuse counts no loop can run with."""
        for name in ("num_steps", "scenarios_per_step", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}")
        for name in ("checkpoint_every", "evaluate_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0; got {getattr(self, name)}")
        for name in ("max_failed_fraction", "max_failed_judgement_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1]; got {getattr(self, name)}")
        if self.max_failures_per_run is not None and self.max_failures_per_run < 0:
            raise ValueError(f"max_failures_per_run must be >= 0 or null; got {self.max_failures_per_run}")


class Progress(Protocol):
    """What tells the user where the run is."""

    def stage(self, name: str, *, step: int, num_steps: int) -> None:
        """Say that a stage of a step begins."""
        ...

    def dialogue_ended(self, trajectory: Trajectory) -> None:
        """Say that one more dialogue of the step is over."""
        ...


@dataclass(frozen=True, slots=True)
class SilentProgress:
    """`Progress` that says nothing."""

    def stage(self, name: str, *, step: int, num_steps: int) -> None:
        """Say nothing."""

    def dialogue_ended(self, trajectory: Trajectory) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """Every object of a run, built. The loop reads it and changes nothing in it."""

    loop: LoopConfig
    scenarios: ScenarioOrder
    collect: Collect
    rewards: Callable[[Sequence[Trajectory]], TurnRewards]
    credit: CreditEstimator
    engine: PolicyEngine
    learner: Learner
    tracker: Tracker
    checkpoints: Checkpoints
    dialogues: DialogueLog
    progress: Progress = field(default_factory=SilentProgress)
    evaluations: tuple[EvaluationCallback, ...] = ()
    first_step: int = 0
    """`RunState.step` of the checkpoint the run continues from."""
    pad_id: int = 0
    temperature: float = 1.0
    """Of the policy's sampling."""
    discount: float = 1.0
    """Per turn, of the returns written to the dialogue records; the estimator has its own."""
    config_digest: str = ""
    exhausted: Callable[[], str | None] = lambda: None
    """Says why nothing more may be spent; asked before every step."""
    spent: Callable[[], Mapping[str, float]] = dict
    """What the step's dialogues took, as metrics."""


async def train(run: Run) -> None:
    """Improve the policy: collect dialogues, credit their turns, update, publish; repeat.

    A step is recorded once its update is done and made to last by the next checkpoint; what a kill leaves
    behind the last checkpoint is dropped from the records on resume and done again.

    Raises:
        RolloutError: too much of a step or of the run failed, or a budget is used up; what was learned before
            lies behind a checkpoint.
        LearnerError: the learner cannot go on.
        CheckpointError: a checkpoint cannot be written.
    """
    await run.engine.load_weights(await asyncio.to_thread(run.learner.weights))
    checkpoint_step, version = run.first_step, 0
    for step in range(run.first_step, run.loop.num_steps):
        try:
            _refuse_exhausted(run, step)
            metrics = await _train_step(run, step)
        except RolloutError:
            if step > checkpoint_step:
                await _checkpoint(run, step - 1, version=version, is_last=False)
            raise
        version = int(metrics["weight_version"])
        run.tracker.log(metrics, step)
        if is_due(step, run.loop.evaluate_every):
            run.progress.stage("evaluate", step=step, num_steps=run.loop.num_steps)
            for evaluate in run.evaluations:
                run.tracker.log(await evaluate(run.engine), step)
        # Last, so that a step is either wholly in the records and behind a checkpoint, or done again.
        is_last = step == run.loop.num_steps - 1
        if is_last or is_due(step, run.loop.checkpoint_every):
            await _checkpoint(run, step, version=version, is_last=is_last)
            checkpoint_step = step + 1


def is_due(step: int, every: int) -> bool:
    """Say whether something that happens every so many steps happens after this one; 0 means never."""
    return every > 0 and (step + 1) % every == 0


async def _train_step(run: Run, step: int) -> dict[str, float]:
    """Do one step and measure it."""
    seconds: dict[str, float] = {}
    with _stage(run, step, "collect dialogues", seconds, "rollout_seconds"):
        trajectories = await run.collect(step, run.scenarios(step), run.progress.dialogue_ended)
    _refuse_failed(trajectories, step, run.loop)
    turns = run.rewards(trajectories)
    advantages = run.credit(turns)
    batch = pack(step, trajectories, advantages, turns.valid, pad_id=run.pad_id, temperature=run.temperature)
    with _stage(run, step, "update the policy", seconds, "update_seconds"):
        # In a thread, so that engines and simulators stay responsive meanwhile; nothing else trains.
        report = await asyncio.to_thread(run.learner.update, batch)
    with _stage(run, step, "publish weights", seconds, "weights_seconds"):
        await run.engine.load_weights(await asyncio.to_thread(run.learner.weights))
    returns = discounted_returns(turns.rewards, turns.valid, gamma=run.discount)
    run.dialogues.append(step, trajectories, turns=turns, returns=returns, advantages=advantages)
    return {
        **step_metrics(trajectories, turns, advantages=advantages, batch=batch, report=report),
        **run.spent(),
        **seconds,
    }


async def _checkpoint(run: Run, step: int, *, version: int, is_last: bool) -> None:
    """Write a checkpoint that continues after this step; at the end, hand the records to the tracker."""
    run.progress.stage("write checkpoint", step=step, num_steps=run.loop.num_steps)
    state = RunState(
        step=step + 1,
        version=version,
        scenario_order=run.scenarios.digest,
        config_digest=run.config_digest,
        random=RandomState.capture(),
    )
    path = await asyncio.to_thread(run.checkpoints.save, state, run.learner)
    if is_last:
        run.tracker.artifact(run.dialogues.path)
        if run.loop.track_policy:
            run.tracker.artifact(path / "learner" / "policy")


def _refuse_failed(trajectories: Sequence[Trajectory], step: int, bounds: LoopConfig) -> None:
    """Stop before an outage turns into training on the little that escaped it.

    Raises:
        RolloutError: the share of failed dialogues or judgements is above its bound.
    """
    failed = [trajectory for trajectory in trajectories if trajectory.stop is Stop.FAILED]
    if len(failed) > bounds.max_failed_fraction * len(trajectories):
        raise RolloutError(
            f"{len(failed)} of {len(trajectories)} dialogues of step {step} failed, the first with: "
            f"{failed[0].error}; mend that and --resume, or raise loop.max_failed_fraction"
        )
    judgements = [turn.judgement for trajectory in trajectories for turn in trajectory.turns]
    missing = [judgement for judgement in judgements if not judgement.is_valid]
    if len(missing) > bounds.max_failed_judgement_fraction * len(judgements):
        raise RolloutError(
            f"{len(missing)} of {len(judgements)} judgements of step {step} are missing, the first because: "
            f"{missing[0].error}; mend that and --resume, or raise loop.max_failed_judgement_fraction"
        )


def _refuse_exhausted(run: Run, step: int) -> None:
    """Stop between two steps when the run has no budget left.

    Raises:
        BudgetError: the money or the calls allowed are used up.
        RolloutError: the failures are.
    """
    failures, bound = run.dialogues.num_failures, run.loop.max_failures_per_run
    if bound is not None and failures > bound:
        raise RolloutError(
            f"stopped before step {step}: {failures} failures so far, {bound} allowed; see the errors in "
            f"{run.dialogues.path}, then raise loop.max_failures_per_run and --resume"
        )
    if reason := run.exhausted():
        raise BudgetError(f"stopped before step {step}: {reason}")


@contextmanager
def _stage(run: Run, step: int, name: str, seconds: dict[str, float], metric: str) -> Iterator[None]:
    """Name a stage to the user and time it."""
    run.progress.stage(name, step=step, num_steps=run.loop.num_steps)
    start = time.perf_counter()
    yield
    seconds[metric] = time.perf_counter() - start
