"""Build the objects of a RunConfig and run the loop, in this process or on Ray.

Reads the environment; which cluster it joins: launch/cluster.py. Checks beforehand: launch/preflight.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from mica_ray.chat.ledger import POLICY, Ledger, MeteredChat
from mica_ray.chat.model import ChatModel
from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import EMBEDDED, Player, Recording
from mica_ray.config.run_config import RunConfig
from mica_ray.dialogue.judger import Judger
from mica_ray.evaluation.evaluate import Evaluation
from mica_ray.launch.assembly import Parts, measure
from mica_ray.launch.cluster import gpus_here, join_ray_for
from mica_ray.launch.plan import Plan
from mica_ray.launch.policy_source import check_context, fetch_policy, read_policy_facts
from mica_ray.launch.preflight import check_run
from mica_ray.launch.start_engines import start_policy, start_role_model
from mica_ray.launch.training_run import TrainingRun
from mica_ray.launch.world import RoleModelSource, World, build_world, embedded_domain, role_model, role_price
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.record import RunSummary
from mica_ray.tracking.tracker import Tracker
from mica_ray.training.learner import Learner
from mica_ray.training.loop import Progress, SilentProgress

_LOG = logging.getLogger(__name__)


def plan(config: RunConfig, *, inline: bool) -> Plan:
    """Check a run without starting it, and say what it would start.

    Raises:
        ConfigError: one line for the first thing that cannot work.
    """
    return check_run(config, inline=inline, environment=os.environ, gpus_here=gpus_here())


def run_training(
    config: RunConfig,
    *,
    inline: bool = False,
    resume: Path | None = None,
    progress: Progress | None = None,
    tracker: Tracker | None = None,
    roles_shared: bool = False,
) -> RunSummary:
    """Train a policy: set up, evaluate, run the loop, evaluate again.

    Args:
        config: of the run; when resuming, that of the run folder with what the user changed.
        inline: in this process with the transformers engine, instead of on Ray with vLLM and DeepSpeed.
        resume: the run folder to go on in.
        progress: told of stages.
        tracker: told of metrics, beside the run folder's file and MLflow.
        roles_shared: on Ray, ask the role models' engines that the run's sweep has started.

    Raises:
        ConfigError: one line for what the user asked for and cannot have; nothing was written.
        EngineError, LearnerError, RolloutError, CheckpointError: the run cannot go on; it can be resumed.
    """
    for subject, statement in _check_all(config, inline).lines:
        if subject in ("cards", "contaminated"):
            _LOG.log(logging.WARNING if config.contaminated else logging.INFO, "%s: %s", subject, statement)
    if resume is None:
        path = config.out or Path("runs") / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = RunFolder.create(config, path)
    else:
        folder = RunFolder.open(resume)
        if config.contaminated and not RunConfig.read(folder.config_file).contaminated:
            raise ConfigError(
                f"{resume}: began without test cards; begin a new run for allow_test_cards=true"
            )
    told = progress or SilentProgress()
    run = TrainingRun(config, folder, told, tracker)
    ledger = Ledger(folder.costs)
    parts = set_up(
        config, inline=inline, progress=told, folder=folder, ledger=ledger, roles_shared=roles_shared
    )
    return asyncio.run(run.play(parts, resumes=resume is not None))


def evaluate_policy(
    config: RunConfig,
    *,
    inline: bool = False,
    progress: Progress | None = None,
    ledger: Ledger | None = None,
) -> Evaluation:
    """Evaluate `config.policy` on the evaluation scenarios; needs no learner. The ledger gets its costs.

    Raises:
        ConfigError: as `run_training`.
        EngineError: no dialogue could be played.
    """
    _check_all(config, inline)
    told = progress or SilentProgress()

    async def play() -> Evaluation:
        async with set_up(config, inline=inline, progress=told, ledger=ledger) as parts:
            return await measure(config, parts, told, step=0)

    return asyncio.run(play())


def policy_folder(config: RunConfig, progress: Progress | None = None) -> Path:
    """Give the local folder of the policy, making or fetching it where needed.

    Raises:
        ConfigError: there is none.
    """
    if config.policy != EMBEDDED:
        return fetch_policy(config.policy)
    from mica_ray.embedded.policy import embedded_policy
    from mica_ray.embedded.recipe import EmbeddedPolicyRecipe

    told = progress or SilentProgress()

    def report(stage: str, share: float) -> None:
        name = f"set up: make the policy, {stage}, {share:.0%}"
        told.stage(name, step=0, num_steps=config.loop.num_steps)

    domain = embedded_domain(config)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mica_ray"
    return embedded_policy(domain, cache, recipe=EmbeddedPolicyRecipe(seed=config.policy_seed), report=report)


@asynccontextmanager
async def set_up(
    config: RunConfig,
    *,
    inline: bool,
    progress: Progress,
    folder: RunFolder | None = None,
    ledger: Ledger | None = None,
    roles_shared: bool = False,
) -> AsyncIterator[Parts]:
    """Start engines and, given a run folder, a learner; end them afterwards.

    Args:
        config: of the run.
        inline: in this process instead of on Ray.
        progress: told of stages.
        folder: of the training run; None starts no learner.
        ledger: counts what the roles take; None for one of the parts' own.
        roles_shared: as for `run_training`.

    Raises:
        ConfigError: the policy is too short for the context, or the cluster lacks the GPUs.
        EngineError, LearnerError: a part does not start.
    """
    _quiet_libraries()
    path = await asyncio.to_thread(policy_folder, config, progress)
    check_context(read_policy_facts(path), config.rollout.context_length, "rollout.context_length")
    progress.stage("set up: start engines and learner", step=0, num_steps=config.loop.num_steps)
    template = await asyncio.to_thread(ChatTemplate.from_folder, path, config.chat_template_arguments)
    async with AsyncExitStack() as stack:
        if inline:
            _limit_threads(config.inline_threads)
        else:
            stack.callback(await asyncio.to_thread(join_ray_for, config))
        # The learner's group starts in the background while the engines load.
        learner = (
            None if folder is None else await asyncio.to_thread(_start_learner, config, path, folder, inline)
        )
        if learner is not None:
            stack.callback(learner.close)
        engine = await start_policy(config, path, template, inline=inline)
        stack.push_async_callback(engine.close)
        ledger = ledger or Ledger()
        world, _ = await start_world(stack, config, inline=inline, ledger=ledger, roles_shared=roles_shared)
        yield Parts(world=world, template=template, engine=engine, learner=learner, ledger=ledger)


async def start_world(
    stack: AsyncExitStack,
    config: RunConfig,
    *,
    inline: bool,
    ledger: Ledger,
    policy: Player | Recording | None = None,
    roles_shared: bool = False,
) -> tuple[World, ChatModel | None]:
    """Start what vLLM serves for roles; give the world, and a policy that is known by its text alone.

    Args:
        stack: ends what is started here.
        config: of the run.
        inline: in this process instead of on Ray.
        ledger: counts what they take.
        policy: who replies, where no engine does.
        roles_shared: as for `run_training`.

    Raises:
        ConfigError: no such domain or model, or a key that is not set.
        EngineError: an engine does not start.
    """
    served: dict[str, ChatModel] = {}
    if config.roles.served_models and not inline:
        stack.callback(await asyncio.to_thread(join_ray_for, config))
    for model in config.roles.served_models:
        served[model], engine = await start_role_model(config, model, inline=inline, shared=roles_shared)
        stack.push_async_callback(engine.close)
    find = served.__getitem__
    world = build_world(config, environment=os.environ, served=find, ledger=ledger)
    if policy is None:
        return world, None
    model = role_model(policy, environment=os.environ, served=find)
    return world, MeteredChat(model, ledger, POLICY, role_price(policy))


@asynccontextmanager
async def judge_model(config: RunConfig, *, inline: bool) -> AsyncIterator[ChatModel]:
    """Start what the judge of a config alone needs, and give the model behind it; end it afterwards.

    Raises:
        ConfigError: the judge is no chat model, or cannot be asked.
        EngineError: its engine does not start.
    """
    async with AsyncExitStack() as stack:
        world, _ = await start_world(stack, config, inline=inline, ledger=Ledger())
        if not isinstance(world.judge, Judger):
            name = type(world.judge).__name__
            raise ConfigError(f"roles.judge: {name} has no chat() and can only score replies")
        yield world.judge.model


def role_world(config: RunConfig, served: RoleModelSource | None = None) -> World:
    """Give the world of a config without starting an engine.

    Args:
        config: of the roles.
        served: gives the models that run elsewhere in the cluster already; None where none does.

    Raises:
        ConfigError: a role needs an engine that nobody started, or cannot be asked.
    """

    def refuse(model: str) -> ChatModel:
        raise ConfigError(f"vllm:{model} needs an engine of its own; give the role's endpoint as JSON")

    return build_world(config, environment=os.environ, served=served or refuse)


def _check_all(config: RunConfig, inline: bool) -> Plan:
    return check_run(config, inline=inline, environment=os.environ, gpus_here=gpus_here(), weights=True)


def _quiet_libraries() -> None:
    """Keep other packages' progress bars and notices from tearing ours apart."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _limit_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def _start_learner(config: RunConfig, path: Path, folder: RunFolder, inline: bool) -> Learner:
    if inline:
        from mica_ray.training.local_learner import LocalLearner

        return LocalLearner(path, config.whole_learner)
    from mica_ray.rollout.weights import TransferRoute
    from mica_ray.training.ray_learner import RayLearner

    engine = config.engine
    return RayLearner(
        path,
        config.whole_learner,
        config.ray_learner,
        folder=folder.group_checkpoints,
        route=(
            None
            if engine.weight_transfer == "bucket"
            else TransferRoute(engine.weight_transfer, engine.tensor_parallel)
        ),
    )
