"""A pool of engines that several processes of one Ray job ask, found by its name.

What a pool is: engine_pool.py. Weights of a shared pool never change: its engines are no policy in training.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import ray
from ray.exceptions import RayActorError

from mica_ray.chat.model import JsonSchema
from mica_ray.error_lines import last_line
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.engine_blueprint import MAX_CONCURRENCY, EngineBlueprint, PoolConfig
from mica_ray.rollout.engine_pool import EnginePool, answer_within
from mica_ray.types import Generation, PolicyWeights, Sampling

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorClass, ActorHandle

_CLOSE_SECONDS = 60.0


class _PoolHost:
    """Holds a pool in an actor. It, and with it the engines, ends with the process that made the actor."""

    def __init__(self, blueprint: EngineBlueprint, num_engines: int, config: PoolConfig) -> None:
        self._blueprint, self._num_engines, self._config = blueprint, num_engines, config
        self._pool: EnginePool | None = None

    async def start(self) -> None:
        """Make the engines and wait until they are ready."""
        self._pool = await EnginePool.start(
            self._blueprint, num_engines=self._num_engines, config=self._config
        )

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema | None
    ) -> Generation:
        """Sample one reply, on the engine with the least to do for all who ask."""
        assert self._pool is not None, "nobody finds a pool that is not started"
        if schema is None:
            return await self._pool.generate(prompt_ids, sampling)
        return await self._pool.generate_json(prompt_ids, sampling, schema)

    async def close(self) -> None:
        """End the engines."""
        if self._pool is not None:
            await self._pool.close()


class SharedPool:
    """A `PolicyEngine`, and a `GuidedEngine` where its engines are, that lives in an actor of that name.

    Consumes prompts, produces replies; waits for the actor, which replaces dead engines by the pool's rules.
    Whoever found it leaves it as it is by `close`; whoever started it ends it by `end`.
    """

    def __init__(self, name: str, host: ActorHandle, config: PoolConfig) -> None:
        """Ask an actor that is there; `start_shared_pool` and `find_shared_pool` give it."""
        self._name, self._host = name, host
        # An engine may have to be made anew before the reply.
        self._seconds = config.generate_deadline_seconds + config.start_deadline_seconds

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        """Sample one reply.

        Raises:
            EngineError: as a pool, or the process that holds the pool is gone.
        """
        return await self._generate(prompt_ids, sampling, None)

    async def generate_json(
        self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema
    ) -> Generation:
        """Sample one reply that satisfies a JSON schema.

        Raises:
            EngineError: as `generate`, or the engines cannot follow a schema.
        """
        return await self._generate(prompt_ids, sampling, dict(schema))

    async def load_weights(self, weights: PolicyWeights) -> None:
        """Refuse: others ask the same engines.

        Raises:
            EngineError: always.
        """
        raise EngineError(f"{self._name}: shared engines keep their weights; got version {weights.version}")

    async def close(self) -> None:
        """Leave the pool to the others."""

    async def end(self) -> None:
        """End the engines and their holder."""
        try:
            await answer_within(self._host.close.remote(), _CLOSE_SECONDS, f"the end of {self._name}")
        except (EngineError, RayActorError):
            pass  # What does not end by itself, or has ended, is killed.
        finally:
            ray.kill(self._host)

    async def _generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema | None
    ) -> Generation:
        reference = cast(
            "ObjectRef[Generation]", self._host.generate.remote(tuple(prompt_ids), sampling, schema)
        )
        try:
            return await answer_within(reference, self._seconds, f"a reply of {self._name}")
        except RayActorError as death:
            raise EngineError(
                f"{self._name}: its holder died, resume the sweep: {last_line(death)}"
            ) from death


async def start_shared_pool(
    name: str, blueprint: EngineBlueprint, *, num_engines: int, config: PoolConfig
) -> SharedPool:
    """Make engines for everyone in this Ray job who knows their name; they end with this process.

    Raises:
        EngineError: the name is taken, fewer resources than asked for, or an engine does not start.
    """
    actor_class: ActorClass = ray.remote(_PoolHost)  # pyright: ignore[reportAssignmentType]
    options = actor_class.options(name=name, num_cpus=0, max_concurrency=MAX_CONCURRENCY, max_restarts=0)
    try:
        host = cast("ActorHandle", options.remote(blueprint, num_engines, config))
    except ValueError as error:
        raise EngineError(f"{name}: is shared already; end its sweep first") from error
    pool = SharedPool(name, host, config)
    try:
        await answer_within(host.start.remote(), config.start_deadline_seconds, f"the start of {name}")
    except RayActorError as death:
        raise EngineError(f"{name} does not start: {last_line(death)}") from death
    except (EngineError, asyncio.CancelledError):
        await pool.end()
        raise
    return pool


def find_shared_pool(name: str, config: PoolConfig) -> SharedPool:
    """Give the pool of that name in this Ray job.

    Raises:
        EngineError: there is none, or no more.
    """
    try:
        return SharedPool(name, ray.get_actor(name), config)
    except ValueError as error:
        raise EngineError(
            f"{name}: nobody shares it, or its holder died; start or resume the sweep"
        ) from error
