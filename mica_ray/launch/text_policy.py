"""The policy under test as a chat model: an endpoint, or an engine that this command starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from mica_ray.chat.ledger import POLICY, Ledger, MeteredChat, Price
from mica_ray.chat.model import ChatModel
from mica_ray.config.role_config import Player, Recording
from mica_ray.config.run_config import RunConfig
from mica_ray.launch import run
from mica_ray.launch.domain_source import read_domain
from mica_ray.launch.start_world import start_world
from mica_ray.rollout.policy_chat import PolicyChat
from mica_ray.training.progress import SilentProgress


@asynccontextmanager
async def policy_model(
    config: RunConfig, *, text_policy: Player | Recording | None, inline: bool, ledger: Ledger
) -> AsyncIterator[ChatModel]:
    """Start what the policy of a config needs, and yield it as a chat model; close it afterwards.

    Args:
        config: policy, engine and chat template arguments.
        text_policy: a policy that is called by text; None starts an engine for `config.policy`.
        inline: in this process instead of on Ray.
        ledger: counts the calls of the policy.

    Raises:
        ConfigError: the policy cannot be used.
        EngineError: its engine does not start.
    """
    async with AsyncExitStack() as stack:
        if text_policy is not None:
            domain = await asyncio.to_thread(read_domain, config)
            _, model = await start_world(
                stack, config, domain.played, inline=inline, ledger=ledger, policy=text_policy
            )
            assert model is not None, "a text policy was given"
            yield model
            return
        checked = await asyncio.to_thread(run.check, config, inline=inline, trains=False)
        parts = await stack.enter_async_context(run.set_up(checked, progress=SilentProgress(), ledger=ledger))
        chat = PolicyChat(parts.engine, parts.template, name=config.policy)
        yield MeteredChat(chat, ledger, POLICY, Price())
