"""Assemble started parts into the loop's `Run`, an evaluation or a credit check.

Starts nothing; launch/run.py does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mica_ray.chat.ledger import DialogueKey, Ledger, Tally
from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.credit.noise_gate import NoiseGate, nearest_ties
from mica_ray.credit_study.agreement import CreditCheck
from mica_ray.credit_study.check import CheckConfig, check_credit
from mica_ray.dialogue.judger import Judge
from mica_ray.dialogue.play import DialogueStart
from mica_ray.dialogue.repeat_judging import RepeatConfig, Repeated, repeat_judgements
from mica_ray.evaluation.evaluate import Evaluation, evaluate, evaluation_metrics
from mica_ray.files import StepLog
from mica_ray.launch.world import World
from mica_ray.recordings.dialogue_log import DialogueLog
from mica_ray.recordings.recorded_turns import RecordedTurns
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.collect import collect, play_all
from mica_ray.rollout.engine import PolicyEngine
from mica_ray.rollout.engine_policy import EnginePolicy
from mica_ray.runs.folder import RunFolder
from mica_ray.tracking.tracker import Tracker
from mica_ray.training.audit.auditor import PHASE, Auditor
from mica_ray.training.checkpoint import CheckpointError, Checkpoints
from mica_ray.training.learner import Learner
from mica_ray.training.loop import Run
from mica_ray.training.metrics import cost_metrics
from mica_ray.training.progress import Progress
from mica_ray.training.scenario_order import ScenarioOrder
from mica_ray.types import Scenario, Trajectory

OnDialogueEnd = Callable[[Trajectory], None]

ROLL_FORWARD = "roll replies forward"
"""Stage of a credit check, as shown in progress bars."""

_TRAIN = "train"
"""Phase of the ledger while training dialogues are played."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The started parts of a run."""

    world: World
    template: ChatTemplate
    engine: PolicyEngine
    learner: Learner | None
    """None if nothing is trained."""
    ledger: Ledger
    """Counts the calls and costs of the role models and the policy."""
    evaluation_world: World | None = None
    """World of the evaluations, if they have their own roles or rules; None for `world`."""

    @property
    def evaluated(self) -> World:
        """The world of the evaluations."""
        return self.evaluation_world or self.world

    def policy(self, config: RunConfig) -> EnginePolicy:
        """Return the engine as the policy of the run's dialogues."""
        return EnginePolicy(self.engine, self.template, config.rollout.context_length, self.ledger)


def assemble(
    config: RunConfig,
    parts: Parts,
    folder: RunFolder,
    *,
    order: ScenarioOrder,
    checkpoints: Checkpoints,
    tracker: Tracker,
    progress: Progress,
    first_step: int,
) -> Run:
    """Build the loop's `Run` from started parts.

    Args:
        config: of the run.
        parts: with a learner.
        folder: of the run.
        order: order of the training scenarios.
        checkpoints: of the run.
        tracker: receives metrics.
        progress: receives stages and dialogues.
        first_step: 0, or the step after the restored checkpoint.
    """
    assert parts.learner is not None, "training needs a learner"
    ledger, before = parts.ledger, dict[str, Mapping[str, Tally]]()
    repeated: dict[str, float] = {}
    auditor = new_auditor(config, parts, folder, order, first_step)

    async def play(step: int, scenarios: Sequence[Scenario], on_end: OnDialogueEnd) -> list[Trajectory]:
        ledger.phase = _TRAIN
        before.update({phase: ledger.totals([phase]) for phase in (_TRAIN, PHASE)})
        played = await collect(
            scenarios,
            parts.world.environment,
            parts.policy(config),
            config.rollout,
            step=step,
            seed=config.seed,
            policy_prompt=parts.world.policy_prompt,
            progress=_closing(ledger, step, on_end),
        )
        if config.repeat_judging is None:
            return played
        outcome = await judge_ties_again(
            config, config.repeat_judging, played, judge=parts.world.judge, ledger=ledger, step=step
        )
        repeated["repeated_judgements"] = outcome.num_asked
        repeated["failed_repeated_judgements"] = outcome.num_failed
        return list(outcome.trajectories)

    def spent() -> Mapping[str, float]:
        def since(phase: str) -> dict[str, Tally]:
            earlier = before.get(phase, {})
            return {
                role: tally - earlier.get(role, Tally()) for role, tally in ledger.totals([phase]).items()
            }

        costs = cost_metrics(since(_TRAIN), None if auditor is None else since(PHASE))
        return {**costs, **repeated}

    async def measure_at(engine: PolicyEngine) -> Mapping[str, float]:
        return evaluation_metrics(
            await measure(config, replace(parts, engine=engine), progress, phase="evaluate_during")
        )

    return Run(
        loop=config.loop,
        scenarios=order,
        collect=play,
        rewards=config.whole_rewards,
        credit=config.whole_credit,
        engine=parts.engine,
        learner=parts.learner,
        tracker=tracker,
        checkpoints=checkpoints,
        dialogues=DialogueLog(folder.dialogues, first_step=first_step),
        progress=progress,
        evaluations=(measure_at,),
        first_step=first_step,
        temperature=config.rollout.sampling.temperature,
        discount=config.discount,
        exhausted=lambda: (
            config.budget.excess(ledger.totals()) or (None if auditor is None else auditor.stop_reason())
        ),
        spent=spent,
        audit=auditor,
        config_digest=hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16],
    )


async def judge_ties_again(
    config: RunConfig,
    repeat: RepeatConfig,
    played: Sequence[Trajectory],
    *,
    judge: Judge,
    ledger: Ledger,
    step: int,
) -> Repeated:
    """Repeat the judgement of the turns nearest to a tie among their siblings.

    Args:
        config: of the run; its gate, if it has one, decides what is compared.
        repeat: how many turns, and how often.
        played: all trajectories of the step.
        judge: of the run.
        ledger: gets one more line for every dialogue that is judged again.
        step: of the loop.
    """
    turns = config.whole_rewards(played)
    # The size of the noise does not change which turns are nearest to a tie.
    gate = config.noise_gate or NoiseGate(reward_sd=1.0)
    chosen = nearest_ties(gate.squared_ratios(turns, gamma=config.discount), fraction=repeat.fraction)
    outcome = await repeat_judgements(played, chosen, judge, repeat, step=step, seed=config.seed)
    for trajectory, row in zip(played, chosen, strict=True):
        if row.any():
            ledger.close(DialogueKey(step, trajectory.scenario.id, trajectory.sample))
    return outcome


def new_auditor(
    config: RunConfig, parts: Parts, folder: RunFolder, order: ScenarioOrder, first_step: int
) -> Auditor | None:
    """Return the audit of a run, continued from its log; None without an audit judge."""
    if parts.world.audit_judge is None:
        return None
    return Auditor(
        config.audit,
        training_judge=parts.world.judge,
        audit_judge=parts.world.audit_judge,
        domain=parts.world.domain,
        rewards=config.whole_rewards,
        languages={scenario.language for scenario in order.scenarios},
        num_steps=config.loop.num_steps,
        seed=config.seed,
        ledger=parts.ledger,
        log=StepLog(folder.audit, first_step=first_step),
    )


async def measure(
    config: RunConfig, parts: Parts, progress: Progress, *, step: int | None = None, phase: str = "evaluate"
) -> Evaluation:
    """Play the evaluation scenarios and score them.

    Args:
        config: of the run.
        parts: started; a learner is not used.
        progress: receives stages and dialogues.
        step: reports the stage "evaluate" at this step; None reports none.
        phase: phase of the ledger to which the costs belong.
    """
    parts.ledger.phase = phase
    world = parts.evaluated
    chosen = world.scenarios(config.evaluation.split)[: config.evaluation.max_scenarios]
    if step is not None:
        progress.stage("evaluate", step=step, num_steps=config.loop.num_steps)
    return await evaluate(
        parts.policy(config),
        world.environment,
        chosen,
        config=config.evaluation,
        rollout=config.rollout,
        policy_prompt=world.policy_prompt,
        progress=_closing(parts.ledger, 0, progress.dialogue_ended),
    )


async def check_credit_of(
    config: RunConfig,
    parts: Parts,
    stored: RecordedTurns,
    check: CheckConfig,
    progress: Progress,
    *,
    policy_step: int | None,
) -> CreditCheck:
    """Check the credit of stored dialogues by playing them on from sampled turns."""
    parts.ledger.phase = "check_credit"

    async def play_from(starts: Sequence[DialogueStart]) -> Sequence[Trajectory]:
        progress.stage(ROLL_FORWARD, step=0, num_steps=config.loop.num_steps)
        return await play_all(
            starts,
            lambda start: parts.world.environment(start.scenario, start.seed, start.begun),
            parts.policy(config),
            config.rollout,
            policy_prompt=parts.world.policy_prompt,
            progress=_closing(parts.ledger, 0, progress.dialogue_ended),
        )

    scenarios = {scenario.id: scenario for scenario in parts.world.domain.scenarios}
    rewards = config.whole_rewards
    return await check_credit(stored, scenarios, play_from, rewards, check, policy_step=policy_step)


def _closing(ledger: Ledger, step: int, on_end: OnDialogueEnd) -> OnDialogueEnd:
    """Return a callback that writes a dialogue's costs as it ends, then calls `on_end`."""

    def close(trajectory: Trajectory) -> None:
        ledger.close(DialogueKey(step, trajectory.scenario.id, trajectory.sample))
        on_end(trajectory)

    return close


def restored_step(checkpoints: Checkpoints, learner: Learner, order: ScenarioOrder) -> int:
    """Restore the learner from the newest checkpoint; return the next step, or 0.

    Raises:
        ConfigError: the checkpoint belongs to another model or other scenarios.
    """
    if checkpoints.latest() is None:
        return 0
    try:
        return checkpoints.restore(learner, scenario_order=order.digest).step
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
