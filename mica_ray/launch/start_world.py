"""Start the models that vLLM serves for roles, and build the world with them.

The engines of the policy and the learner are started in launch/run.py.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from mica_ray.chat.ledger import POLICY, Ledger, MeteredChat
from mica_ray.chat.model import ChatModel
from mica_ray.chat.openai_api import DEFAULT_SLOTS
from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import Player, Recording
from mica_ray.config.run_config import RunConfig
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.judger import Judge, Judger
from mica_ray.launch.cluster import join_ray_for
from mica_ray.launch.domain_source import read_domain
from mica_ray.launch.start_engines import start_role_model
from mica_ray.launch.world import RoleModelSource, World, build_world, role_model, role_price


async def start_world(
    stack: AsyncExitStack,
    config: RunConfig,
    domain: Domain,
    *,
    inline: bool,
    ledger: Ledger,
    policy: Player | Recording | None = None,
    roles_shared: bool = False,
) -> tuple[World, ChatModel | None]:
    """Start the models that vLLM serves for roles, and build the world.

    Args:
        stack: closes what is started here.
        config: of the run.
        domain: with the scenarios and rules of the run.
        inline: in this process instead of on Ray.
        ledger: counts the costs of the roles.
        policy: model that writes the replies, if no engine does.
        roles_shared: as for `run_training`.

    Returns:
        The world, and the model behind `policy`.

    Raises:
        ConfigError: no such model, or an API key is not set.
        EngineError: an engine does not start.
    """
    served: dict[str, ChatModel] = {}
    if config.roles.served_models and not inline:
        stack.callback(await asyncio.to_thread(join_ray_for, config))
    for model in config.roles.served_models:
        served[model], engine = await start_role_model(config, model, inline=inline, shared=roles_shared)
        stack.push_async_callback(engine.close)
    find = served.__getitem__
    world = build_world(
        config.roles,
        domain,
        environment=os.environ,
        served=find,
        ledger=ledger,
        slots=_num_slots(config),
    )
    if policy is None:
        return world, None
    model = role_model(policy, environment=os.environ, served=find)
    return world, MeteredChat(model, ledger, POLICY, role_price(policy))


@asynccontextmanager
async def started_judge(
    config: RunConfig, domain: Domain, *, inline: bool, ledger: Ledger | None = None
) -> AsyncIterator[Judge]:
    """Start what the judge of a config needs, and yield the judge; close it afterwards.

    Args:
        config: with the judge.
        domain: with the judge's instructions.
        inline: in this process instead of on Ray.
        ledger: counts the calls of the judge.

    Raises:
        ConfigError: the judge cannot be used.
        EngineError: its engine does not start.
    """
    async with AsyncExitStack() as stack:
        world, _ = await start_world(stack, config, domain, inline=inline, ledger=ledger or Ledger())
        yield world.judge


@asynccontextmanager
async def judge_model(
    config: RunConfig, *, inline: bool, ledger: Ledger | None = None
) -> AsyncIterator[ChatModel]:
    """Start what the judge of a config needs, and yield its chat model; close it afterwards.

    Args:
        config: with the judge.
        inline: in this process instead of on Ray.
        ledger: counts the calls of the judge.

    Raises:
        ConfigError: the judge has no chat model, or cannot be used.
        EngineError: its engine does not start.
    """
    domain = read_domain(config).played
    async with started_judge(config, domain, inline=inline, ledger=ledger) as judge:
        if not isinstance(judge, Judger):
            raise ConfigError(f"roles.judge: {type(judge).__name__} has no chat(). Use a chat model.")
        yield judge.model


def evaluation_world(config: RunConfig, world: World, *, ledger: Ledger) -> World | None:
    """Build the world of a run's evaluations; None if it is that of training.

    Args:
        config: of the run.
        world: of training.
        ledger: counts the costs of the roles.

    Raises:
        ConfigError: an API key is not set.
    """
    rules, roles = config.evaluation.rules, config.evaluation_roles
    if rules is None and roles is None:
        return None
    domain = world.domain if rules is None else replace(world.domain, rules=rules)
    if roles is None:
        return replace(world, domain=domain)
    # RunConfig refuses served models here.
    return build_world(
        roles,
        domain,
        environment=os.environ,
        served={}.__getitem__,
        ledger=ledger,
        slots=_num_slots(config),
    )


def _num_slots(config: RunConfig) -> int:
    """Return the calls in flight at an endpoint without a limit: one for each dialogue of a step."""
    return max(DEFAULT_SLOTS, config.dialogues_per_step)


def role_world(config: RunConfig, served: RoleModelSource | None = None) -> World:
    """Build the world of a config without starting an engine.

    Args:
        config: with the roles.
        served: finds models that already run elsewhere in the cluster; None if none does.

    Raises:
        ConfigError: a role needs an engine that is not running, or cannot be used.
    """

    def refuse(model: str) -> ChatModel:
        raise ConfigError(f"vllm:{model} has no running engine. Set the role to an endpoint, as JSON.")

    domain = read_domain(config).played
    return build_world(config.roles, domain, environment=os.environ, served=served or refuse)
