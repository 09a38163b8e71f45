"""Engines in Ray actors behind one PolicyEngine: sticky routing, deadlines, dead engines replaced.

What an engine is says its blueprint (`engine_blueprint.py`); this file alone of the rollout talks to actors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from mica_ray.chat.model import JsonSchema
from mica_ray.error_lines import first_line, last_line
from mica_ray.rollout.engine import EngineError, PolicyEngine
from mica_ray.rollout.engine_blueprint import MAX_CONCURRENCY, EngineBlueprint, PoolConfig
from mica_ray.rollout.weights import Incoming, WeightBucket, WeightSender, publish
from mica_ray.types import Generation, PolicyWeights, Sampling

if TYPE_CHECKING:
    from ray.actor import ActorClass, ActorHandle

_Answer = TypeVar("_Answer")


@dataclass(slots=True, eq=False)
class _Seat:
    """One engine's place in the pool; its occupant changes when it dies."""

    index: int
    actor: ActorHandle
    repair: asyncio.Lock
    generation: int = 0
    """Counts the occupants, so that several who saw the same death replace it once."""
    load: int = 0
    """Replies being made."""


class EnginePool:
    """`PolicyEngine` over actors, a `GuidedEngine` where they are, and a `RoutingEngine`.

    Consumes prompts, produces replies; waits for actors, never longer than its deadlines. A dead engine is
    made anew with the current weights, and each reply that it owed is asked for once more: the seed is in the
    request, so the second asking samples the same reply.
    """

    def __init__(self, blueprint: EngineBlueprint, config: PoolConfig) -> None:
        """Hold no engine yet; `start` makes them."""
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
        """Make the engines, all at once, and wait until they are ready. Ray must be running.

        Raises:
            EngineError: fewer resources than asked for, or an engine does not start.
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
        """The engines' actors, by seat."""
        return tuple(seat.actor for seat in self._seats)

    @property
    def num_replacements(self) -> int:
        """Engines made anew so far."""
        return self._replacements

    def route(self, key: int) -> PolicyEngine:
        """Give the engine that keeps this dialogue's earlier turns cached. Equal keys, equal engines."""
        return _Route(self, self._seats[key % len(self._seats)])

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        """Sample one reply on the engine with the least to do.

        Raises:
            EngineError: the prompt does not fit, the deadline passed, or too many engines died.
        """
        return await self._generate(min(self._seats, key=lambda seat: seat.load), prompt_ids, sampling)

    async def generate_json(
        self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema
    ) -> Generation:
        """Sample one reply that satisfies a JSON schema, on the engine with the least to do.

        Raises:
            EngineError: as `generate` does, or the engines cannot follow a schema.
        """
        return await self._generate(
            min(self._seats, key=lambda seat: seat.load), prompt_ids, sampling, schema
        )

    async def load_weights(self, weights: PolicyWeights) -> None:
        """Send new weights to every engine, at once and by reference. Loading a version twice does nothing.

        Raises:
            EngineError: an engine refuses them, reports another version, or does not take them in time.
        """
        async with self._loading:
            if isinstance(weights.source, WeightBucket):
                weights = publish(weights.source, weights.version)
            # Before anyone loads: an engine replaced from now on begins with these.
            self._weights = weights
            if isinstance(weights.source, WeightSender):
                # A group of processes cannot begin with a dead member: whoever is dead is replaced first.
                await asyncio.gather(*(self._on(seat, self._alive) for seat in self._seats))
                await self._receive(self.actors, weights, weights.source)
            else:
                await asyncio.gather(
                    *(self._on(seat, lambda actor: self._load(actor, weights)) for seat in self._seats)
                )

    async def close(self) -> None:
        """Let every engine end itself, then end its actor."""
        seats, self._seats = self._seats, []
        closing = [answer_within(seat.actor.close.remote(), 30, "closing") for seat in seats]
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
                reference, self._config.generate_deadline_seconds, f"a reply of engine {seat.index}"
            )

        async with self._permits:
            seat.load += 1
            try:
                return await self._on(seat, ask)
            finally:
                seat.load -= 1

    async def _alive(self, actor: ActorHandle) -> None:
        await answer_within(actor.version.remote(), self._config.load_deadline_seconds, "a sign of life")

    async def _receive(
        self, actors: Sequence[ActorHandle], weights: PolicyWeights, sender: WeightSender
    ) -> None:
        """Let a learner send its weights to these engines; one that fails ends it for all."""
        seconds = self._config.load_deadline_seconds
        incoming = PolicyWeights(weights.version, Incoming())
        tasks = [asyncio.ensure_future(sender.send(tuple(actors), seconds))]
        tasks += [
            asyncio.ensure_future(
                answer_within(
                    actor.load_weights.remote(incoming), seconds, f"receiving version {weights.version}"
                )
            )
            for actor in actors
        ]
        try:
            await asyncio.gather(*tasks)
        except RayActorError as death:
            raise EngineError(
                f"an engine died while weights were on their way; resume the run: {first_line(death)}"
            ) from death
        finally:
            for task in tasks:
                task.cancel()  # Of those not done: an engine must not go on waiting for what never comes.
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, actor: ActorHandle, weights: PolicyWeights) -> None:
        if isinstance(weights.source, WeightSender):
            await self._receive([actor], weights, weights.source)
            return
        # The reference lies inside a dataclass, so Ray hands it over unresolved and each engine fetches for
        # itself.
        reference = actor.load_weights.remote(weights)
        version: int = await answer_within(
            reference, self._config.load_deadline_seconds, f"loading version {weights.version}"
        )
        if version != weights.version:
            raise EngineError(
                f"an engine holds version {version} after loading {weights.version}: restart the run"
            )

    async def _on(self, seat: _Seat, ask: Callable[[ActorHandle], Awaitable[_Answer]]) -> _Answer:
        """Ask the engine of a seat; when it is dead, replace it and ask the new one, once."""
        seen = seat.generation
        try:
            return await ask(seat.actor)
        except RayActorError as death:
            await self._replace(seat, seen, death)
        try:
            return await ask(seat.actor)
        except RayActorError as death:
            raise EngineError(
                f"engine {seat.index} died again on the same call: {first_line(death)}"
            ) from death

    async def _replace(self, seat: _Seat, seen: int, death: RayActorError) -> None:
        async with seat.repair:
            if seat.generation != seen:
                return
            if self._replacements >= self._config.max_replacements:
                raise EngineError(
                    f"engine {seat.index} died and {self._replacements} engines were already replaced; "
                    f"look into its log, or raise max_replacements: {first_line(death)}"
                ) from death
            self._replacements += 1
            ray.kill(seat.actor)
            # It takes the seat only with its weights: until then everyone meets the dead one and waits here.
            actor = self._make()
            try:
                await self._ready(seat.index, actor)
                if self._weights is not None:
                    await self._load(actor, self._weights)
            except RayActorError as again:
                raise EngineError(
                    f"engine {seat.index} died while taking weights: {first_line(again)}"
                ) from again
            except EngineError:
                ray.kill(actor)
                raise
            seat.actor = actor
            seat.generation += 1

    def _make(self) -> ActorHandle:
        blueprint = self._blueprint
        actor_class: ActorClass = ray.remote(blueprint.engine)  # pyright: ignore[reportAssignmentType]
        options = actor_class.options(
            num_cpus=blueprint.num_cpus,
            num_gpus=blueprint.num_gpus,
            max_concurrency=MAX_CONCURRENCY,
            max_restarts=0,  # Ray would restart it without weights; the pool knows which it needs.
            runtime_env={"env_vars": dict(blueprint.environment)},
        )
        return cast("ActorHandle", options.remote(*blueprint.arguments))

    async def _ready(self, index: int, actor: ActorHandle) -> None:
        try:
            await answer_within(
                actor.version.remote(),
                self._config.start_deadline_seconds,
                f"the start of engine {index}",
            )
        except RayActorError as death:
            raise EngineError(f"engine {index} does not start: {last_line(death)}") from death


class _Route:
    """A pool as one dialogue sees it: always the same seat."""

    def __init__(self, pool: EnginePool, seat: _Seat) -> None:
        self._pool = pool
        self._seat = seat

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        return await self._pool._generate(self._seat, prompt_ids, sampling)

    async def load_weights(self, weights: PolicyWeights) -> None:
        await self._pool.load_weights(weights)

    async def close(self) -> None:
        """Do nothing: the pool outlives the dialogue."""


async def answer_within(reference: ray.ObjectRef[_Answer], seconds: float, what: str) -> _Answer:
    """Wait for an actor's answer.

    Raises:
        RayActorError: the actor is dead.
        EngineError: it did not answer in time, or raised.
    """
    try:
        async with asyncio.timeout(seconds):
            return await reference
    except TimeoutError as error:
        ray.cancel(reference)
        raise EngineError(f"{what} took more than {seconds:g} s") from error
    except asyncio.CancelledError:
        ray.cancel(reference)  # Nobody waits for it: the engine must not go on sampling.
        raise
    except RayActorError:
        raise
    except RayTaskError as error:
        cause = error.cause
        raise EngineError(
            str(cause) if isinstance(cause, EngineError) else f"{what} failed: {last_line(error)}"
        ) from error
    except RayError as error:
        raise EngineError(f"{what} failed: {first_line(error)}") from error


def _check_resources(blueprint: EngineBlueprint, num_engines: int) -> None:
    """Say at once what Ray would only say by never starting the actor."""
    total = ray.cluster_resources()
    for name, each in (("CPU", blueprint.num_cpus), ("GPU", blueprint.num_gpus)):
        if each * num_engines > total.get(name, 0.0):
            raise EngineError(
                f"{num_engines} engines of {each:g} {name} need {each * num_engines:g}, the cluster has "
                f"{total.get(name, 0.0):g}: ask for fewer engines or add nodes"
            )
