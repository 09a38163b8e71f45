"""Start the engines that a config describes: of the policy in training, and of models served for roles."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

from mica_ray.chat.model import ChatModel
from mica_ray.config.policy_source import fetch_policy
from mica_ray.config.run_config import RunConfig
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import PolicyEngine
from mica_ray.rollout.policy_chat import PolicyChat
from mica_ray.rollout.vllm_engine import EngineConfig, vllm_blueprint


async def start_policy(
    config: RunConfig, path: Path, template: ChatTemplate, *, inline: bool
) -> PolicyEngine:
    """Start the engines of the policy in training.

    Args:
        config: of the run.
        path: the policy's folder.
        template: of its tokenizer.
        inline: one in this process instead of vLLM in Ray actors; Ray must be running for those.

    Raises:
        EngineError: an engine does not start.
    """
    rollout = config.rollout
    if inline:
        # With LLM roles it depends on the endpoints' speed which replies share a batch, and a batch's
        # company changes the last bits of a reply. Alone, a reply is the same when it is replayed.
        is_alone = config.roles.are_recorded
        return await _start_local(
            path, template, config.learner.dtype, rollout.context_length, is_alone=is_alone
        )
    return await _start_pool(
        path,
        template,
        config.engine,
        num_engines=config.num_engines,
        deadline_seconds=rollout.generate_deadline_seconds,
    )


async def start_role_model(config: RunConfig, model: str, *, inline: bool) -> tuple[ChatModel, PolicyEngine]:
    """Start engines of their own for a simulator or judge beside the policy's.

    Args:
        config: of the run.
        model: a folder or hub id.
        inline: as for `start_policy`.

    Returns:
        The model as the roles ask it, and its engines, to be closed.

    Raises:
        ConfigError: there is no such model.
        EngineError: an engine does not start.
    """
    roles = config.roles
    path = await asyncio.to_thread(fetch_policy, model)
    template = await asyncio.to_thread(ChatTemplate.from_folder, path, roles.chat_template_arguments)
    if inline:
        engine = await _start_local(path, template, roles.engine.dtype, roles.engine.max_model_len)
    else:
        engine = await _start_pool(
            path,
            template,
            roles.engine,
            num_engines=roles.num_engines,
            deadline_seconds=roles.deadline_seconds,
        )
    return PolicyChat(engine, template, name=model), engine


async def _start_local(
    path: Path,
    template: ChatTemplate,
    dtype: Literal["float32", "bfloat16"],
    context_length: int,
    *,
    is_alone: bool = False,
) -> PolicyEngine:
    from mica_ray.rollout.local_engine import MAX_BATCH, LocalEngine

    return await asyncio.to_thread(
        LocalEngine.from_folder,
        path,
        template,
        dtype=dtype,
        context_length=context_length,
        max_batch=1 if is_alone else MAX_BATCH,
    )


async def _start_pool(
    path: Path, template: ChatTemplate, engine: EngineConfig, *, num_engines: int, deadline_seconds: float
) -> PolicyEngine:
    from mica_ray.rollout.engine_pool import EnginePool, PoolConfig

    blueprint = vllm_blueprint(path, template.stop_ids, engine)
    pool = PoolConfig(generate_deadline_seconds=deadline_seconds)
    return await EnginePool.start(blueprint, num_engines=num_engines, config=pool)
