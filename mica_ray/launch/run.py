"""Check a config, start the parts of a run, and train or evaluate.

Reads the environment variables. The checks are in launch/preflight.py, the cluster in launch/cluster.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from mica_ray.chat.ledger import Ledger
from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import EMBEDDED
from mica_ray.config.run_config import RunConfig
from mica_ray.evaluation.evaluate import Evaluation
from mica_ray.launch.assembly import Parts, measure
from mica_ray.launch.checked_run import CheckedRun
from mica_ray.launch.cluster import gpus_here, join_ray_for, joins_cluster
from mica_ray.launch.domain_source import RunDomain
from mica_ray.launch.interruptible import in_thread
from mica_ray.launch.memory.machine import machine_memory
from mica_ray.launch.policy_source import cache_folder, fetch_policy
from mica_ray.launch.preflight import check_run
from mica_ray.launch.start_engines import start_policy
from mica_ray.launch.start_world import evaluation_world, start_world
from mica_ray.launch.training_run import TrainingRun
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.scenario_texts import ScenarioTexts, check_resumed
from mica_ray.runs.summary import RunSummary
from mica_ray.tracking.tracker import Tracker
from mica_ray.training.learner import Learner
from mica_ray.training.progress import Progress, SilentProgress

_LOG = logging.getLogger(__name__)


def check(
    config: RunConfig,
    *,
    inline: bool,
    weights: bool = True,
    trains: bool = True,
    learns: bool = True,
    loaded: RunDomain | None = None,
) -> CheckedRun:
    """Check a run with the environment of this process, as `check_run`. Starts nothing.

    Args:
        config: of the run.
        inline: whether it runs in this process, instead of on Ray.
        weights: whether to download the weights of hub models; False for a dry run.
        trains: as for `check_run`.
        learns: as for `check_run`.
        loaded: as for `check_run`.

    Raises:
        ConfigError: one line for the first problem.
    """
    return check_run(
        config,
        inline=inline,
        environment=os.environ,
        gpus_here=gpus_here(),
        machine=machine_memory(gpu_gib=config.gpu_memory_gib, is_cluster=joins_cluster()),
        weights=weights,
        trains=trains,
        learns=learns,
        loaded=loaded,
    )


def run_training(
    checked: CheckedRun,
    *,
    resume: Path | None = None,
    progress: Progress | None = None,
    tracker: Tracker | None = None,
    roles_shared: bool = False,
) -> RunSummary:
    """Train a policy: start the parts, evaluate, run the loop, evaluate again.

    Args:
        checked: the run; when resuming, with the config of the run folder and the user's changes to it.
        resume: run folder to continue in.
        progress: receives stages and dialogues.
        tracker: receives metrics, in addition to the file of the run folder and MLflow.
        roles_shared: whether to use the role engines that the sweep has already started on Ray.

    Raises:
        ConfigError: one line for what cannot be done; nothing was written.
        EngineError, LearnerError, RolloutError, CheckpointError: the run stopped; it can be resumed.
    """
    config = checked.config
    for subject, statement in checked.plan.lines:
        if subject in ("cards", "contaminated"):
            _LOG.log(logging.WARNING if config.contaminated else logging.INFO, "%s: %s", subject, statement)
    folder = _new_folder(config) if resume is None else check_resume(checked, resume)
    progress = progress or SilentProgress()
    run = TrainingRun(config, folder, progress, tracker)
    parts = set_up(
        checked, progress=progress, folder=folder, ledger=Ledger(folder.costs), roles_shared=roles_shared
    )
    return asyncio.run(run.play(parts, resumes=resume is not None))


def _new_folder(config: RunConfig) -> RunFolder:
    path = config.out or Path("runs") / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return RunFolder.create(config, path)


def check_resume(checked: CheckedRun, path: Path) -> RunFolder:
    """Return the folder of a run to continue. Changes nothing.

    Args:
        checked: config of the run folder with the user's changes.
        path: run folder.

    Raises:
        ConfigError: there is no such run, or its results would not be comparable with what it measured so
            far.
    """
    config, folder = checked.config, RunFolder.open(path)
    stored = RunConfig.read(folder.config_file, trusted=True)
    if config.rollout.history != stored.rollout.history:
        raise ConfigError(
            f"{path}: the run started with rollout.history={stored.rollout.history}, got "
            f"{config.rollout.history}. Leave it out, or start a new run."
        )
    if config.contaminated and not stored.contaminated:
        raise ConfigError(
            f"{path}: the run started without test cards. Start a new run to use allow_test_cards=true."
        )
    domain = checked.domain
    evaluated = domain.split(config.evaluation.split)
    check_resumed(folder, ScenarioTexts.of(config, domain.split("train"), evaluated))
    return folder


def evaluate_policy(
    checked: CheckedRun, *, progress: Progress | None = None, ledger: Ledger | None = None
) -> Evaluation:
    """Evaluate the policy of a run on its evaluation scenarios; starts no learner.

    Args:
        checked: the run.
        progress: receives stages and dialogues.
        ledger: receives the costs.

    Raises:
        ConfigError: the cluster lacks GPUs, or a part cannot be used.
        EngineError: no dialogue could be played.
    """
    progress = progress or SilentProgress()

    async def play() -> Evaluation:
        async with set_up(checked, progress=progress, ledger=ledger) as parts:
            return await measure(checked.config, parts, progress, step=0)

    return asyncio.run(play())


def policy_folder(checked: CheckedRun, progress: Progress | None = None) -> Path:
    """Return the folder of the policy; make or download the policy if needed.

    Raises:
        ConfigError: the download failed.
    """
    config = checked.config
    if config.policy != EMBEDDED:
        return fetch_policy(config.policy)
    from mica_ray.embedded.policy import embedded_policy
    from mica_ray.embedded.recipe import EmbeddedPolicyRecipe

    progress = progress or SilentProgress()

    def report(stage: str, share: float) -> None:
        name = f"set up: make the policy, {stage}, {share:.0%}"
        progress.stage(name, step=0, num_steps=config.loop.num_steps)

    recipe = EmbeddedPolicyRecipe(seed=config.policy_seed)
    return embedded_policy(checked.loaded.declared, cache_folder(), recipe=recipe, report=report)


@asynccontextmanager
async def set_up(
    checked: CheckedRun,
    *,
    progress: Progress,
    folder: RunFolder | None = None,
    ledger: Ledger | None = None,
    roles_shared: bool = False,
) -> AsyncIterator[Parts]:
    """Start engines and, with a run folder, a learner; close them afterwards.

    Args:
        checked: the run.
        progress: receives stages.
        folder: of the training run; None starts no learner.
        ledger: counts the costs of the roles; None for a new one.
        roles_shared: as for `run_training`.

    Raises:
        ConfigError: the cluster lacks GPUs, or a role cannot be used.
        EngineError, LearnerError: a part does not start.
    """
    config, inline = checked.config, checked.inline
    _quiet_libraries()
    path = await in_thread(lambda: policy_folder(checked, progress))
    progress.stage("set up: start engines and learner", step=0, num_steps=config.loop.num_steps)
    template = await asyncio.to_thread(
        ChatTemplate.from_folder, path, config.chat_template_arguments, history=config.rollout.history
    )
    async with AsyncExitStack() as stack:
        if inline:
            _limit_threads(config.inline_threads)
        else:
            stack.callback(await asyncio.to_thread(join_ray_for, config))
        # The learner group starts in the background while the engines load.
        learner = (
            None if folder is None else await asyncio.to_thread(_start_learner, config, path, folder, inline)
        )
        if learner is not None:
            stack.callback(learner.close)
        engine = await start_policy(config, path, template, inline=inline, trains=learner is not None)
        stack.push_async_callback(engine.close)
        ledger = ledger or Ledger()
        world, _ = await start_world(
            stack, config, checked.domain, inline=inline, ledger=ledger, roles_shared=roles_shared
        )
        evaluated = evaluation_world(config, world, ledger=ledger)
        yield Parts(world, template, engine, learner, ledger, evaluated)


def _quiet_libraries() -> None:
    """Switch off the progress bars and notices of other packages, which would break ours."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _limit_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def _base_name(policy: str, path: Path) -> str:
    """Return the name by which saved adapters refer to the policy they were trained from."""
    folder = Path(policy).expanduser()
    if policy == EMBEDDED:
        return str(path)
    return str(folder.resolve()) if folder.is_dir() else policy


def _start_learner(config: RunConfig, path: Path, folder: RunFolder, inline: bool) -> Learner:
    settings = config.whole_learner
    if settings.lora is not None:
        settings = replace(settings, lora=replace(settings.lora, base=_base_name(config.policy, path)))
    if inline:
        from mica_ray.training.local_learner import LocalLearner

        return LocalLearner(path, settings)
    from mica_ray.rollout.weights import TransferRoute
    from mica_ray.training.ray_learner import RayLearner

    engine = config.engine
    return RayLearner(
        path,
        settings,
        config.ray_learner,
        folder=folder.group_checkpoints,
        route=(
            None
            if engine.weight_transfer == "bucket"
            else TransferRoute(engine.weight_transfer, engine.tensor_parallel)
        ),
    )
