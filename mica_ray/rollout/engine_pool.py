"""A pool of engines in Ray actors: sticky routing, deadlines, replacement of dead engines.

How an engine is started is in engine_blueprint.py. A pool that several processes use is in shared_pool.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import ray
from ray.exceptions import RayActorError

from mica_ray.chat.model import JsonSchema
from mica_ray.error_lines import first_line, last_line
from mica_ray.rollout.actor_answers import answer_within
from mica_ray.rollout.engine import EngineError, PolicyEngine
from mica_ray.rollout.engine_blueprint import MAX_CONCURRENCY, EngineBlueprint, PoolConfig
from mica_ray.rollout.weights import Incoming, WeightBucket, WeightSender, publish
from mica_ray.types import Generation, PolicyWeights, Sampling

if TYPE_CHECKING:
    from ray.actor import ActorClass, ActorHandle

_Answer = TypeVar("_Answer")


@dataclass(slots=True, eq=False)
class _Seat:
    """One place in the pool. A dead engine is replaced by a new one in the same seat."""

    index: int
    actor: ActorHandle
    repair: asyncio.Lock
    num_replaced: int = 0
    """Engines that had this seat before, so that several callers who see one death replace it once."""
    load: int = 0
    """Replies being generated."""


class EnginePool:
    """`PolicyEngine` and `RoutingEngine` over actors; a `GuidedEngine` when the engines are.

    Consumes prompts, produces replies; waits for actors up to its deadlines. A dead engine is replaced by one
    with the current weights, and its unfinished replies are requested once more. The seed is in the request,
    so the second request samples the same reply.
    """

    def __init__(self, blueprint: EngineBlueprint, config: PoolConfig) -> None:
        """Create a pool without engines; `start` starts them."""
        self._blueprint = blueprint
        self._config = config
        self._seats: list[_Seat] = []
        self._weights: PolicyWeights | None = None
        self._replacements = 0
        self._permits = asyncio.Semaphore(config.max_inflight)
        self._loading = asyncio.Lock()

    @classmethod
    async def start(
        cls, blueprint: EngineBlueprint, *, num_engines: int = 1, config: PoolConfig | None = None
    ) -> EnginePool:
        """Start all engines at once and wait until they are ready. Ray must be running.

        Raises:
            EngineError: the cluster has too few resources, or an engine does not start.
        """
        pool = cls(blueprint, config or PoolConfig())
        _check_resources(blueprint, num_engines)
        pool._seats = [_Seat(index, pool._make(), asyncio.Lock()) for index in range(num_engines)]
        try:
            await asyncio.gather(*(pool._ready(seat.index, seat.actor) for seat in pool._seats))
        except BaseException:
            await pool.close()
            raise
        return pool

    @property
    def actors(self) -> tuple[ActorHandle, ...]:
        """The actors of the engines, by seat."""
        return tuple(seat.actor for seat in self._seats)

    @property
    def num_replacements(self) -> int:
        """Engines replaced so far."""
        return self._replacements

    def route(self, key: int) -> PolicyEngine:
        """Return the engine that caches this dialogue's earlier turns: equal keys, equal engines."""
        return _Route(self, self._seats[key % len(self._seats)])

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        """Sample one reply on the engine with the fewest requests.

        Raises:
            EngineError: the prompt does not fit, the deadline passed, or too many engines died.
        """
        return await self._generate(min(self._seats, key=lambda seat: seat.load), prompt_ids, sampling)

    async def generate_json(
        self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema
    ) -> Generation:
        """Sample one reply that satisfies a JSON schema, on the engine with the fewest requests.

        Raises:
            EngineError: as for `generate`, or the engines cannot follow a schema.
        """
        return await self._generate(
            min(self._seats, key=lambda seat: seat.load), prompt_ids, sampling, schema
        )

    async def load_weights(self, weights: PolicyWeights) -> None:
        """Load new weights into every engine, in parallel. Loading a version twice does nothing.

        Raises:
            EngineError: an engine refuses them, reports another version, or misses the deadline.
        """
        async with self._loading:
            if isinstance(weights.source, WeightBucket):
                weights = publish(weights.source, weights.version)
            # Set first, so that an engine replaced from now on starts with these weights.
            self._weights = weights
            if isinstance(weights.source, WeightSender):
                # A process group cannot start with a dead member, so dead engines are replaced first.
                await asyncio.gather(*(self._on(seat, self._alive) for seat in self._seats))
                await self._receive(self.actors, weights, weights.source)
            else:
                await asyncio.gather(
                    *(self._on(seat, lambda actor: self._load(actor, weights)) for seat in self._seats)
                )

    async def sleep(self) -> None:
        """Free the device memory of every engine until the next weights.

        Raises:
            EngineError: an engine fails, or misses the deadline for weights.
        """
        seconds = self._config.load_deadline_seconds

        async def sleep(actor: ActorHandle) -> None:
            await answer_within(actor.sleep.remote(), seconds, "An engine's freeing of memory")

        await asyncio.gather(*(self._on(seat, sleep) for seat in self._seats))

    async def close(self) -> None:
        """Close every engine, then kill its actor."""
        seats, self._seats = self._seats, []
        closing = [
            answer_within(seat.actor.close.remote(), 30, f"Closing engine {seat.index}") for seat in seats
        ]
        await asyncio.gather(*closing, return_exceptions=True)
        for seat in seats:
            ray.kill(seat.actor)

    async def _generate(
        self, seat: _Seat, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema | None = None
    ) -> Generation:
        prompt = tuple(prompt_ids)

        async def ask(actor: ActorHandle) -> Generation:
            reference = (
                actor.generate.remote(prompt, sampling)
                if schema is None
                else actor.generate_json.remote(prompt, sampling, dict(schema))
            )
            return await answer_within(
                reference,
                self._config.generate_deadline_seconds,
                f"A reply of engine {seat.index}",
                remedy=f"raise {self._config.generate_setting}",
            )

        async with self._permits:
            seat.load += 1
            try:
                return await self._on(seat, ask)
            finally:
                seat.load -= 1

    async def _alive(self, actor: ActorHandle) -> None:
        await answer_within(
            actor.version.remote(), self._config.load_deadline_seconds, "An engine's health check"
        )

    async def _receive(
        self, actors: Sequence[ActorHandle], weights: PolicyWeights, sender: WeightSender
    ) -> None:
        """Receive a learner's weights in these engines; one failing engine fails the transfer."""
        seconds, what = self._config.load_deadline_seconds, f"Receiving weights version {weights.version}"
        incoming = PolicyWeights(weights.version, Incoming())
        tasks = [asyncio.ensure_future(sender.send(tuple(actors), seconds))]
        tasks += [
            asyncio.ensure_future(answer_within(actor.load_weights.remote(incoming), seconds, what))
            for actor in actors
        ]
        try:
            await asyncio.gather(*tasks)
        except RayActorError as death:
            raise EngineError(
                f"An engine died during a weight transfer ({first_line(death)}). Rerun with --resume."
            ) from death
        finally:
            for task in tasks:
                task.cancel()  # An engine must not keep waiting for weights that will not arrive.
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, actor: ActorHandle, weights: PolicyWeights) -> None:
        if isinstance(weights.source, WeightSender):
            await self._receive([actor], weights, weights.source)
            return
        # The reference is inside a dataclass, so Ray passes it on unresolved and each engine fetches the
        # weights itself.
        reference = actor.load_weights.remote(weights)
        version: int = await answer_within(
            reference, self._config.load_deadline_seconds, f"Loading weights version {weights.version}"
        )
        if version != weights.version:
            raise EngineError(
                f"An engine has version {version} after loading {weights.version}. Rerun with --resume."
            )

    async def _on(self, seat: _Seat, ask: Callable[[ActorHandle], Awaitable[_Answer]]) -> _Answer:
        """Call the engine of a seat; if it is dead, replace it and repeat the call once."""
        seen = seat.num_replaced
        try:
            return await ask(seat.actor)
        except RayActorError as death:
            await self._replace(seat, seen, death)
        try:
            return await ask(seat.actor)
        except RayActorError as death:
            raise EngineError(
                f"Engine {seat.index} died twice on the same call ({first_line(death)}). Check its log; its "
                "memory may be exhausted."
            ) from death

    async def _replace(self, seat: _Seat, seen: int, death: RayActorError) -> None:
        async with seat.repair:
            if seat.num_replaced != seen:
                return
            if self._replacements >= self._config.max_replacements:
                raise EngineError(
                    f"Engine {seat.index} died ({first_line(death)}) after {self._replacements} engines had "
                    "been replaced. Check its log, or raise max_replacements."
                ) from death
            self._replacements += 1
            ray.kill(seat.actor)
            # The new engine takes the seat once it has weights; until then callers see the dead one and wait.
            actor = self._make()
            try:
                await self._ready(seat.index, actor)
                if self._weights is not None:
                    await self._load(actor, self._weights)
            except RayActorError as again:
                raise EngineError(
                    f"Engine {seat.index} died while loading weights ({first_line(again)}). Check its log."
                ) from again
            except EngineError:
                ray.kill(actor)
                raise
            seat.actor = actor
            seat.num_replaced += 1

    def _make(self) -> ActorHandle:
        blueprint = self._blueprint
        actor_class: ActorClass = ray.remote(blueprint.engine)  # pyright: ignore[reportAssignmentType]
        options = actor_class.options(
            num_cpus=blueprint.num_cpus,
            num_gpus=blueprint.num_gpus,
            max_concurrency=MAX_CONCURRENCY,
            max_restarts=0,  # Ray would restart it without weights; the pool loads them.
            runtime_env={"env_vars": dict(blueprint.environment)},
        )
        return cast("ActorHandle", options.remote(*blueprint.arguments))

    async def _ready(self, index: int, actor: ActorHandle) -> None:
        try:
            await answer_within(
                actor.version.remote(),
                self._config.start_deadline_seconds,
                f"The start of engine {index}",
            )
        except RayActorError as death:
            raise EngineError(f"Engine {index} did not start ({last_line(death)}). Check its log.") from death


class _Route:
    """A pool seen by one dialogue: every reply comes from the same seat."""

    def __init__(self, pool: EnginePool, seat: _Seat) -> None:
        self._pool = pool
        self._seat = seat

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        return await self._pool._generate(self._seat, prompt_ids, sampling)

    async def load_weights(self, weights: PolicyWeights) -> None:
        await self._pool.load_weights(weights)

    async def close(self) -> None:
        """Do nothing: the pool is used by other dialogues."""


def _check_resources(blueprint: EngineBlueprint, num_engines: int) -> None:
    """Check that the cluster can hold the engines; Ray itself would wait without an error."""
    total = ray.cluster_resources()
    for name, each in (("CPU", blueprint.num_cpus), ("GPU", blueprint.num_gpus)):
        if each * num_engines > total.get(name, 0.0):
            raise EngineError(
                f"{num_engines} engines with {each:g} {name} each need {each * num_engines:g} {name}, the "
                f"cluster has {total.get(name, 0.0):g}. Lower num_engines, or add nodes."
            )
