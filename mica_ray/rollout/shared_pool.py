"""A pool of engines that several processes of one Ray job use and find by its name.

The weights of a shared pool never change: it serves role models, not the policy in training.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import ray
from ray.exceptions import RayActorError

from mica_ray.chat.model import JsonSchema
from mica_ray.error_lines import last_line
from mica_ray.rollout.actor_answers import answer_within
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.engine_blueprint import MAX_CONCURRENCY, EngineBlueprint, PoolConfig
from mica_ray.rollout.engine_pool import EnginePool
from mica_ray.types import Generation, PolicyWeights, Sampling

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorClass, ActorHandle

_CLOSE_SECONDS = 60.0


class _PoolHost:
    """Holds a pool in an actor, which ends with the process that created it."""

    def __init__(self, blueprint: EngineBlueprint, num_engines: int, config: PoolConfig) -> None:
        self._blueprint, self._num_engines, self._config = blueprint, num_engines, config
        self._pool: EnginePool | None = None

    async def start(self) -> None:
        """Start the engines and wait until they are ready."""
        self._pool = await EnginePool.start(
            self._blueprint, num_engines=self._num_engines, config=self._config
        )

    async def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema | None
    ) -> Generation:
        """Sample one reply on the engine with the fewest requests."""
        assert self._pool is not None, "start() is awaited before the pool is handed out"
        if schema is None:
            return await self._pool.generate(prompt_ids, sampling)
        return await self._pool.generate_json(prompt_ids, sampling, schema)

    async def close(self) -> None:
        """Close the engines."""
        if self._pool is not None:
            await self._pool.close()


class SharedPool:
    """`PolicyEngine` over a pool in a named actor; a `GuidedEngine` when its engines are.

    Consumes prompts, produces replies; waits for the actor, which replaces dead engines as any pool does.
    `close` leaves the pool running for other processes; the process that started it calls `end`.
    """

    def __init__(self, name: str, host: ActorHandle, config: PoolConfig) -> None:
        """Connect to an existing actor; use `start_shared_pool` or `find_shared_pool`."""
        self._name, self._host = name, host
        # An engine may have to be replaced before the reply.
        self._seconds = config.generate_deadline_seconds + config.start_deadline_seconds

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        """Sample one reply.

        Raises:
            EngineError: as for a pool, or the actor that holds the pool died.
        """
        return await self._generate(prompt_ids, sampling, None)

    async def generate_json(
        self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema
    ) -> Generation:
        """Sample one reply that satisfies a JSON schema.

        Raises:
            EngineError: as for `generate`, or the engines cannot follow a schema.
        """
        return await self._generate(prompt_ids, sampling, dict(schema))

    async def load_weights(self, weights: PolicyWeights) -> None:
        """Refuse new weights: other processes use the same engines.

        Raises:
            EngineError: always.
        """
        raise EngineError(
            f"The weights of shared pool {self._name} cannot change, got version {weights.version}. Use an "
            "EnginePool for a policy in training."
        )

    async def close(self) -> None:
        """Do nothing: other processes use the pool."""

    async def end(self) -> None:
        """Close the engines and kill the actor that holds them."""
        try:
            await answer_within(self._host.close.remote(), _CLOSE_SECONDS, f"Closing {self._name}")
        except (EngineError, RayActorError):
            pass  # It is killed below in any case.
        finally:
            ray.kill(self._host)

    async def _generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema | None
    ) -> Generation:
        reference = cast(
            "ObjectRef[Generation]", self._host.generate.remote(tuple(prompt_ids), sampling, schema)
        )
        try:
            return await answer_within(reference, self._seconds, f"A reply of {self._name}")
        except RayActorError as death:
            raise EngineError(
                f"The actor of shared pool {self._name} died ({last_line(death)}). Resume the sweep."
            ) from death


async def start_shared_pool(
    name: str, blueprint: EngineBlueprint, *, num_engines: int, config: PoolConfig
) -> SharedPool:
    """Start engines that processes of this Ray job find by name; they end with this process.

    Raises:
        EngineError: the name is taken, the cluster has too few resources, or an engine does not start.
    """
    actor_class: ActorClass = ray.remote(_PoolHost)  # pyright: ignore[reportAssignmentType]
    options = actor_class.options(name=name, num_cpus=0, max_concurrency=MAX_CONCURRENCY, max_restarts=0)
    try:
        host = cast("ActorHandle", options.remote(blueprint, num_engines, config))
    except ValueError as error:
        raise EngineError(
            f"A shared pool named {name} already exists. Stop the sweep that started it."
        ) from error
    pool = SharedPool(name, host, config)
    try:
        await answer_within(host.start.remote(), config.start_deadline_seconds, f"The start of {name}")
    except RayActorError as death:
        raise EngineError(f"{name} did not start ({last_line(death)}). Check its log.") from death
    except (EngineError, asyncio.CancelledError):
        await pool.end()
        raise
    return pool


def find_shared_pool(name: str, config: PoolConfig) -> SharedPool:
    """Return the shared pool of this name in this Ray job.

    Raises:
        EngineError: there is none.
    """
    try:
        return SharedPool(name, ray.get_actor(name), config)
    except ValueError as error:
        raise EngineError(
            f"There is no shared pool named {name}, or its actor died. Start or resume the sweep."
        ) from error
