"""The training loop, without Ray. launch/assembly.py builds the objects it uses, a `Run`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from mica_ray.checks import at_least, within
from mica_ray.credit.estimator import CreditEstimator, trained_turns
from mica_ray.credit.returns import discounted_returns
from mica_ray.packing import pack
from mica_ray.recordings.dialogue_log import DialogueLog
from mica_ray.rollout.engine import PolicyEngine, SleepingEngine
from mica_ray.tracking.tracker import Ending, Tracker
from mica_ray.training.checkpoint import Checkpoints, CheckpointWriter, RandomState, RunState
from mica_ray.training.learner import Learner
from mica_ray.training.metrics import gate_metrics, step_metrics
from mica_ray.training.progress import Progress, SilentProgress
from mica_ray.training.scenario_order import ScenarioOrder
from mica_ray.types import Scenario, Stop, Trajectory, TurnRewards

Collect = Callable[[int, Sequence[Scenario], Callable[[Trajectory], None]], Awaitable[Sequence[Trajectory]]]
"""(step, scenarios, progress) -> the step's trajectories, FAILED ones included.

`rollout.collect.collect` with its other arguments bound; `progress` is called as each dialogue ends."""

EvaluationCallback = Callable[[PolicyEngine], Awaitable[Mapping[str, float]]]
"""Evaluate the policy that the engine serves; metric names start with "eval_"."""

Audit = Callable[[int, Sequence[Trajectory]], Awaitable[Mapping[str, float]]]
"""(step, its trajectories) -> metrics of its audit (training/audit/)."""


class RolloutError(Exception):
    """The run stops: too many dialogues or judgements failed, or a budget is used up.

    The message names the first reason and the remedy. A checkpoint covers the steps already done.
    """


class BudgetError(RolloutError):
    """The run stops at a limit of its user, such as a budget; it can resume with another limit."""


def ending_of(error: BaseException | None) -> Ending:
    """Return how a run ended; an interruption or a limit of the user counts as stopped."""
    if error is None:
        return "finished"
    return "failed" if isinstance(error, Exception) and not isinstance(error, BudgetError) else "stopped"


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """Length of the loop, and how often it evaluates and checkpoints.

    The defaults are those of the paper's released scripts (one epoch of 727 scenarios).
    """

    num_steps: int = 45
    scenarios_per_step: int = 16
    checkpoint_every: int = 10
    """Steps between checkpoints. The last step always writes one; 0 writes no others."""
    keep_checkpoints: int = 2
    evaluate_every: int = 0
    """Steps between evaluations; 0 never evaluates."""
    max_failed_fraction: float = 0.5
    """The run stops when a larger share of a step's dialogues failed."""
    max_failed_judgement_fraction: float = 0.5
    """The run stops when a larger share of a step's judgements failed."""
    max_failures_per_run: int | None = None
    """The run stops once more role answers than this have failed, aborted dialogues included; None for no
    limit."""
    track_policy: bool = True
    """Whether the final policy folder is copied to the tracker."""

    def __post_init__(self) -> None:
        """Check the counts and fractions."""
        at_least(
            1,
            num_steps=self.num_steps,
            scenarios_per_step=self.scenarios_per_step,
            keep_checkpoints=self.keep_checkpoints,
        )
        at_least(0, checkpoint_every=self.checkpoint_every, evaluate_every=self.evaluate_every)
        within(
            0,
            1,
            max_failed_fraction=self.max_failed_fraction,
            max_failed_judgement_fraction=self.max_failed_judgement_fraction,
        )
        if self.max_failures_per_run is not None:
            at_least(0, max_failures_per_run=self.max_failures_per_run)


@dataclass(frozen=True, slots=True)
class Run:
    """Every object that the loop uses, already built. The loop does not change it."""

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
    """`RunState.step` of the checkpoint that the run resumes from; 0 for a new run."""
    pad_id: int = 0
    temperature: float = 1.0
    """Sampling temperature of the policy."""
    discount: float = 1.0
    """Per turn, for the returns in dialogues.jsonl; the credit estimator has its own."""
    config_digest: str = ""
    exhausted: Callable[[], str | None] = lambda: None
    """Return why the budget is used up or the alarm stops the run, or None; called before every step."""
    spent: Callable[[], Mapping[str, float]] = dict
    """Return the costs of the step's dialogues as metrics."""
    audit: Audit | None = None
    """Judges some of the step's dialogues a second time, beside the update; None for no audit."""


async def train(run: Run) -> None:
    """Run the steps from `first_step` to the last, with evaluations and checkpoints.

    A step is recorded after its update and becomes permanent with the next checkpoint, which is written while
    the run goes on if the learner copies its state. After a kill, a resumed run drops the records of steps
    beyond the last checkpoint and runs those steps again.

    Raises:
        RolloutError: too many dialogues or judgements failed, or a budget is used up; a checkpoint covers the
            steps done before.
        LearnerError: the learner cannot continue.
        CheckpointError: a checkpoint cannot be written.
    """
    await _publish_weights(run)
    checkpoint_step, version = run.first_step, 0
    async with CheckpointWriter(run.checkpoints, run.learner) as writer:
        for step in range(run.first_step, run.loop.num_steps):
            try:
                await writer.check()
                _check_limits(run, step)
                metrics = await _train_step(run, step)
            except RolloutError:
                if step > checkpoint_step:
                    await _checkpoint(run, writer, step - 1, version=version, is_last=False)
                raise
            version = int(metrics["weight_version"])
            run.tracker.log(metrics, step)
            if is_due(step, run.loop.evaluate_every):
                await _evaluate(run, step)
            # Last, so that a checkpointed step is completely recorded, and any other step runs again.
            is_last = step == run.loop.num_steps - 1
            if is_last or is_due(step, run.loop.checkpoint_every):
                await _checkpoint(run, writer, step, version=version, is_last=is_last)
                checkpoint_step = step + 1


def is_due(step: int, every: int) -> bool:
    """Whether an action repeated every `every` steps is due after this step; 0 means never."""
    return every > 0 and (step + 1) % every == 0


async def _train_step(run: Run, step: int) -> dict[str, float]:
    """Run one step and return its metrics.

    scenarios -> trajectories -> turn rewards -> advantages -> token batch -> updated weights -> engine
    """
    seconds: dict[str, float] = {}
    with _stage(run, step, "collect dialogues", seconds, "rollout_seconds"):
        trajectories = await run.collect(step, run.scenarios(step), run.progress.dialogue_ended)
    _check_failures(trajectories, step, run.loop)
    turns = run.rewards(trajectories)
    advantages = run.credit(turns)
    trained = trained_turns(run.credit, turns)
    batch = pack(step, trajectories, advantages, trained, pad_id=run.pad_id, temperature=run.temperature)
    async with _audited(run, step, trajectories, seconds) as audited:
        if isinstance(run.engine, SleepingEngine):
            # The learner may need the memory of the same GPU. The next weights wake the engine.
            await run.engine.sleep()
        with _stage(run, step, "update the policy", seconds, "update_seconds"):
            # In a thread, so that engines and simulators stay responsive during the update.
            report = await asyncio.to_thread(run.learner.update, batch)
        with _stage(run, step, "publish weights", seconds, "weights_seconds"):
            await _publish_weights(run)
    returns = discounted_returns(turns.rewards, turns.valid, gamma=run.discount)
    run.dialogues.append(step, trajectories, turns=turns, returns=returns, advantages=advantages)
    return {
        **step_metrics(trajectories, turns, advantages=advantages, batch=batch, report=report),
        **gate_metrics(run.credit, turns),
        **audited,
        **run.spent(),
        **seconds,
    }


@asynccontextmanager
async def _audited(
    run: Run, step: int, trajectories: Sequence[Trajectory], seconds: dict[str, float]
) -> AsyncIterator[dict[str, float]]:
    """Audit the dialogues while the block runs; the yielded metrics are filled at its end."""
    metrics: dict[str, float] = {}
    if run.audit is None:
        yield metrics
        return
    audit = asyncio.ensure_future(run.audit(step, trajectories))
    try:
        yield metrics
        with _stage(run, step, "wait for the audit", seconds, "audit/seconds"):
            metrics.update(await audit)
    finally:
        audit.cancel()


async def _evaluate(run: Run, step: int) -> None:
    """Run every evaluation on the engine's policy and log its metrics."""
    run.progress.stage("evaluate", step=step, num_steps=run.loop.num_steps)
    for evaluate in run.evaluations:
        run.tracker.log(await evaluate(run.engine), step)


async def _publish_weights(run: Run) -> None:
    """Load the learner's current weights into the engine."""
    await run.engine.load_weights(await asyncio.to_thread(run.learner.weights))


async def _checkpoint(run: Run, writer: CheckpointWriter, step: int, *, version: int, is_last: bool) -> None:
    """Start the checkpoint of a finished step; after the last step, finish it and upload the records."""
    run.progress.stage("write checkpoint", step=step, num_steps=run.loop.num_steps)
    state = RunState(
        step=step + 1,
        version=version,
        scenario_order=run.scenarios.digest,
        config_digest=run.config_digest,
        random=RandomState.capture(),
    )
    await writer.start(state)
    if is_last:
        await writer.finish()
        run.tracker.artifact(run.dialogues.path)
        path = run.checkpoints.latest()
        if run.loop.track_policy and path is not None:
            run.tracker.artifact(path / "learner" / "policy")


def _check_failures(trajectories: Sequence[Trajectory], step: int, bounds: LoopConfig) -> None:
    """Stop instead of training on the few dialogues that survive an outage.

    Raises:
        RolloutError: the share of failed dialogues or judgements is above its limit.
    """
    failed = [trajectory for trajectory in trajectories if trajectory.stop is Stop.FAILED]
    if len(failed) > bounds.max_failed_fraction * len(trajectories):
        raise RolloutError(
            f"{len(failed)} of {len(trajectories)} dialogues of step {step} failed. First reason: "
            f"{str(failed[0].error).rstrip('.')}. Fix the cause and rerun with --resume, or raise "
            "loop.max_failed_fraction."
        )
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    judgements = [turn.judgement for turn in turns if not turn.is_silent]
    missing = [judgement for judgement in judgements if not judgement.is_valid]
    if len(missing) > bounds.max_failed_judgement_fraction * len(judgements):
        raise RolloutError(
            f"{len(missing)} of {len(judgements)} judgements of step {step} failed. First reason: "
            f"{str(missing[0].error).rstrip('.')}. Fix the cause and rerun with --resume, or raise "
            "loop.max_failed_judgement_fraction."
        )


def _check_limits(run: Run, step: int) -> None:
    """Stop between two steps when a limit of the whole run is reached.

    Raises:
        BudgetError: the budget in USD or calls is used up.
        RolloutError: more role answers failed than max_failures_per_run allows.
    """
    failures, bound = run.dialogues.num_failures, run.loop.max_failures_per_run
    if bound is not None and failures > bound:
        raise RolloutError(
            f"Stopped before step {step} after {failures} failures, {bound} allowed. Read the errors in "
            f"{run.dialogues.path}, then raise loop.max_failures_per_run and rerun with --resume."
        )
    if reason := run.exhausted():
        raise BudgetError(f"Stopped before step {step}: {reason}")


@contextmanager
def _stage(run: Run, step: int, name: str, seconds: dict[str, float], metric: str) -> Iterator[None]:
    """Show a stage to the user and measure its duration as a metric."""
    run.progress.stage(name, step=step, num_steps=run.loop.num_steps)
    start = time.perf_counter()
    yield
    seconds[metric] = time.perf_counter() - start
