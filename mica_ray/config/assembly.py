"""From started parts to the loop's `Run`, and to an evaluation. Starts nothing; run.py does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.config.run_folder import RunFolder
from mica_ray.config.world import World
from mica_ray.evaluation.empa import Evaluation, evaluate, evaluation_metrics
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.collect import collect
from mica_ray.rollout.engine import PolicyEngine
from mica_ray.training.checkpoint import CheckpointError, Checkpoints
from mica_ray.training.dialogue_log import DialogueLog
from mica_ray.training.learner import Learner
from mica_ray.training.loop import Progress, Run
from mica_ray.training.scenario_order import ScenarioOrder
from mica_ray.training.tracker import Tracker
from mica_ray.types import Scenario, Trajectory

Tell = Callable[[Trajectory], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What works together once a run is set up."""

    world: World
    template: ChatTemplate
    engine: PolicyEngine
    learner: Learner | None
    """None where nothing is trained."""


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
    """Give the loop everything it uses.

    Args:
        config: of the run.
        parts: started, with a learner.
        folder: of the run.
        order: of the training scenarios.
        checkpoints: of the run.
        tracker: told of metrics.
        progress: told of stages.
        first_step: 0, or where a checkpoint continues.
    """
    assert parts.learner is not None, "a run trains"

    async def play(step: int, scenarios: Sequence[Scenario], tell: Tell) -> list[Trajectory]:
        return await collect(
            scenarios,
            parts.world.environment,
            parts.engine,
            parts.template,
            config.rollout,
            step=step,
            seed=config.seed,
            policy_prompt=parts.world.policy_prompt,
            progress=tell,
        )

    async def measure_at(engine: PolicyEngine) -> Mapping[str, float]:
        return evaluation_metrics(await measure(config, replace(parts, engine=engine), progress))

    return Run(
        loop=config.loop,
        scenarios=order,
        collect=play,
        rewards=config.rewards,
        credit=config.credit,
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
        config_digest=hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16],
    )


async def measure(
    config: RunConfig, parts: Parts, progress: Progress, *, step: int | None = None
) -> Evaluation:
    """Play the evaluation scenarios; with a step, the stage is announced here."""
    chosen = parts.world.scenarios(config.evaluation.split)[: config.evaluation.max_scenarios]
    if step is not None:
        progress.stage("evaluate", step=step, num_steps=config.loop.num_steps)
    return await evaluate(
        parts.engine,
        parts.template,
        parts.world.environment,
        chosen,
        config=config.evaluation,
        rollout=config.rollout,
        policy_prompt=parts.world.policy_prompt,
        progress=progress.dialogue_ended,
    )


def restored_step(checkpoints: Checkpoints, learner: Learner, order: ScenarioOrder) -> int:
    """Put the learner where the newest checkpoint stands; a run killed before its first one begins anew.

    Raises:
        ConfigError: the checkpoint is of another model or of other scenarios.
    """
    if checkpoints.latest() is None:
        return 0
    try:
        return checkpoints.restore(learner, scenario_order=order.digest).step
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
