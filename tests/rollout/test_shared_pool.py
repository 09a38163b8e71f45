"""A pool that several processes find by its name: real actors, one pool, no vLLM."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from mica_ray.chat.model import ChatError
from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.launch.start_engines import role_engines_name, start_role_model
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.engine_blueprint import EngineBlueprint, PoolConfig
from mica_ray.rollout.shared_pool import SharedPool, find_shared_pool, start_shared_pool
from mica_ray.types import Generation, Message, PolicyWeights, Sampling
from tests.small_policy import small_folder

pytestmark = [pytest.mark.ray]

CONFIG = PoolConfig(max_replacements=1, generate_deadline_seconds=120, start_deadline_seconds=240)
MESSAGES: list[Message] = [{"role": "user", "content": "Hello."}]


class NamedEngine:
    """Replies with its process id; prompt 99 kills it."""

    def __init__(self, fails_to_start: bool = False) -> None:
        if fails_to_start:
            raise EngineError("no such model")

    async def version(self) -> int:
        return -1

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        if list(prompt_ids) == [99]:
            os._exit(1)
        return Generation(tuple(prompt_ids), (1,), (0.0,), str(os.getpid()), "stop", -1)

    async def load_weights(self, weights: PolicyWeights) -> int:
        return weights.version

    async def close(self) -> None: ...


BLUEPRINT = EngineBlueprint(NamedEngine, num_cpus=0.5)


def ask_elsewhere(name: str, prompt: tuple[int, ...]) -> str:
    """Use a shared pool from another process, as a trial does; return the engine that replied."""
    import ray

    def ask() -> str:
        async def reply() -> str:
            generation = await find_shared_pool(name, CONFIG).generate(prompt, Sampling())
            return generation.text

        return asyncio.run(reply())

    return ray.get(ray.remote(ask).options(num_cpus=0.5).remote(), timeout=240)


async def test_processes_that_know_the_name_ask_one_engine_and_a_dead_one_is_replaced(
    ray_cluster: None,
) -> None:
    name = "one for all"
    pool = await start_shared_pool(name, BLUEPRINT, num_engines=1, config=CONFIG)
    try:
        engine = (await pool.generate((1,), Sampling())).text
        assert await asyncio.to_thread(ask_elsewhere, name, (1,)) == engine != str(os.getpid())
        with pytest.raises(EngineError, match="already exists"):
            await start_shared_pool(name, BLUEPRINT, num_engines=1, config=CONFIG)
        with pytest.raises(EngineError, match="cannot change"):
            await pool.load_weights(PolicyWeights(0, None))
        # The pool survives the close of another process. The prompt kills the engine and its replacement.
        await find_shared_pool(name, CONFIG).close()
        with pytest.raises(EngineError, match="died twice"):
            await pool.generate((99,), Sampling())
        with pytest.raises(EngineError, match="after 1 engines had been replaced"):
            await pool.generate((1,), Sampling())
    finally:
        await pool.end()
    with pytest.raises(EngineError, match=r"no shared pool named one for all"):
        await _ask(name)


async def _ask(name: str) -> Generation:
    return await find_shared_pool(name, CONFIG).generate((1,), Sampling())


async def test_engine_that_does_not_start_is_named_and_leaves_the_name_free(ray_cluster: None) -> None:
    broken = EngineBlueprint(NamedEngine, (True,), num_cpus=0.5)
    with pytest.raises(EngineError, match="no such model"):
        await start_shared_pool("broken", broken, num_engines=1, config=CONFIG)
    with pytest.raises(EngineError, match="no shared pool named broken"):
        find_shared_pool("broken", CONFIG)


async def test_role_of_a_trial_speaks_through_the_engines_of_its_sweep(
    ray_cluster: None, tmp_path: Path
) -> None:
    model = str(small_folder(tmp_path / "judge", tied=True))
    config = override(RunConfig(), [f"roles.judge=vllm:{model}", "roles.max_tokens=8"])
    with pytest.raises(EngineError, match="no shared pool"):
        await start_role_model(config, model, inline=False, shared=True)
    name = role_engines_name(config.roles, model)
    pool: SharedPool = await start_shared_pool(name, BLUEPRINT, num_engines=1, config=CONFIG)
    try:
        # Two trials that differ only in settings that do not affect the roles' engines.
        for alpha in (0.0, 1.0):
            trial = override(config, [f"credit.alpha={alpha}"])
            chat, engine = await start_role_model(trial, model, inline=False, shared=True)
            reply = await chat.chat(MESSAGES, Sampling())
            assert reply.text == (await pool.generate((1,), Sampling())).text
            await engine.close()
    finally:
        await pool.end()
    with pytest.raises(ChatError, match="for roles"):
        await chat.chat(MESSAGES, Sampling())
