"""Start the engines of a config: those of the policy, and those of models served for roles."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mica_ray.chat.model import ChatModel
from mica_ray.config.role_config import VLLM_PREFIX, RoleConfig
from mica_ray.config.run_config import RunConfig
from mica_ray.launch.memory.cache_need import policy_engine, role_engine
from mica_ray.launch.policy_source import fetch_policy, folder_shape
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import PolicyEngine
from mica_ray.rollout.engine_blueprint import PoolConfig
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.rollout.policy_chat import PolicyChat
from mica_ray.rollout.vllm_engine import vllm_blueprint

if TYPE_CHECKING:
    from mica_ray.rollout.shared_pool import SharedPool


async def start_policy(
    config: RunConfig, path: Path, template: ChatTemplate, *, inline: bool, trains: bool = False
) -> PolicyEngine:
    """Start the engines of the policy in training.

    Args:
        config: of the run.
        path: the policy's folder.
        template: chat template of its tokenizer.
        inline: start one engine in this process instead of vLLM in Ray actors, which need a running Ray.
        trains: whether a learner will push weights, which can be an adapter.

    Raises:
        EngineError: an engine does not start.
    """
    rollout = config.rollout
    if inline:
        # The other replies in a batch change the last bits of a reply, and which replies share a batch
        # depends on how fast role endpoints answer. A batch of one makes a replay bit-identical.
        is_unbatched = config.roles.are_recorded
        return await _start_local(
            path, template, config.learner.dtype, rollout.context_length, is_unbatched=is_unbatched
        )
    lora, engine = config.learner.lora, policy_engine(config, folder_shape(path))
    takes_adapters = trains and lora is not None and lora.push == "adapter"
    return await _start_pool(
        path,
        template,
        replace(engine, lora_rank=lora.rank) if takes_adapters and lora else engine,
        num_engines=config.num_engines,
        config=PoolConfig(generate_deadline_seconds=rollout.generate_deadline_seconds),
    )


async def start_role_model(
    config: RunConfig, model: str, *, inline: bool, shared: bool = False
) -> tuple[ChatModel, PolicyEngine]:
    """Start the engines of a model served for roles, or find those of the sweep.

    Args:
        config: of the run.
        model: a folder or hub id.
        inline: as for `start_policy`.
        shared: use the engines that `share_role_model` started in this Ray job, and start none.

    Returns:
        The chat model for the roles, and its engines, which the caller closes.

    Raises:
        ConfigError: there is no such model.
        EngineError: an engine does not start, or no shared engine exists.
    """
    roles = config.roles
    path = await asyncio.to_thread(_role_folder, roles, model)
    template = await asyncio.to_thread(ChatTemplate.from_folder, path, roles.chat_template_arguments)
    if inline:
        engine = await _start_local(path, template, roles.engine.dtype, roles.engine.max_model_len)
    elif shared:
        from mica_ray.rollout.shared_pool import find_shared_pool

        engine = find_shared_pool(role_engines_name(roles, model), _role_pool(roles))
    else:
        engine = await _start_pool(
            path,
            template,
            role_engine(config, model, folder_shape(path)),
            num_engines=roles.num_engines,
            config=_role_pool(roles),
        )
    return PolicyChat(engine, template, name=model), engine


async def share_role_model(roles: RoleConfig, model: str) -> SharedPool:
    """Start engines of a role model for all runs of this Ray job with the same settings.

    Raises:
        ConfigError: there is no such model.
        EngineError: an engine does not start.
    """
    from mica_ray.rollout.shared_pool import start_shared_pool

    path = await asyncio.to_thread(_role_folder, roles, model)
    template = await asyncio.to_thread(ChatTemplate.from_folder, path, roles.chat_template_arguments)
    return await start_shared_pool(
        role_engines_name(roles, model),
        vllm_blueprint(path, template.stop_ids, roles.engine),
        num_engines=roles.num_engines,
        config=_role_pool(roles),
    )


def _role_folder(roles: RoleConfig, model: str) -> Path:
    """Return the folder of a role's model. Error messages name the first role that uses it."""
    asking = [name for name, player in roles.players.items() if player == f"{VLLM_PREFIX}{model}"]
    return fetch_policy(model, key=f"roles.{asking[0]}" if asking else "roles")


def role_engines_name(roles: RoleConfig, model: str) -> str:
    """Return the name of a role model's engines; equal only for runs that can share them."""
    served = [model, asdict(roles.engine), roles.num_engines, roles.deadline_seconds]
    digest = hashlib.blake2b(json.dumps(served, sort_keys=True, default=str).encode(), digest_size=6)
    return f"engines of {model} for roles ({digest.hexdigest()})"


def _role_pool(roles: RoleConfig) -> PoolConfig:
    return PoolConfig(
        generate_deadline_seconds=roles.deadline_seconds, generate_setting="roles.deadline_seconds"
    )


async def _start_local(
    path: Path,
    template: ChatTemplate,
    dtype: Literal["float32", "bfloat16"],
    context_length: int,
    *,
    is_unbatched: bool = False,
) -> PolicyEngine:
    from mica_ray.rollout.local_engine import MAX_BATCH, LocalEngine

    return await asyncio.to_thread(
        LocalEngine.from_folder,
        path,
        template,
        dtype=dtype,
        context_length=context_length,
        max_batch=1 if is_unbatched else MAX_BATCH,
    )


async def _start_pool(
    path: Path, template: ChatTemplate, engine: EngineConfig, *, num_engines: int, config: PoolConfig
) -> PolicyEngine:
    from mica_ray.rollout.engine_pool import EnginePool

    blueprint = vllm_blueprint(path, template.stop_ids, engine)
    return await EnginePool.start(blueprint, num_engines=num_engines, config=config)
