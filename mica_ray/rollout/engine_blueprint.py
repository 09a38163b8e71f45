"""How to start an engine in a Ray actor, and the limits of a pool; without Ray itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mica_ray.checks import above, at_least, within
from mica_ray.types import Generation, PolicyWeights, Sampling

MAX_CONCURRENCY = 1024
"""Concurrent calls of one engine actor; upper limit of PoolConfig.max_inflight."""


class PooledEngine(Protocol):
    """The engine class that a pool starts in its actors; it reports its weight version."""

    async def version(self) -> int:
        """Return the version of the weights, -1 before the first. Returns once the engine is ready."""
        ...

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        """Sample one reply."""
        ...

    async def load_weights(self, weights: PolicyWeights) -> int:
        """Load new weights; return the version now loaded."""
        ...

    async def close(self) -> None:
        """Release the engine's resources."""
        ...


@dataclass(frozen=True, slots=True)
class EngineBlueprint:
    """One engine: its class, its arguments and the resources of its actor."""

    engine: type[PooledEngine]
    arguments: tuple[object, ...] = ()
    """Positional, picklable."""
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Environment variables of the actor's process."""


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Limits of a pool. Every wait for an engine has one of these deadlines."""

    max_inflight: int = 256
    """Concurrent requests over all engines; further ones queue in the pool."""
    start_deadline_seconds: float = 600.0
    generate_deadline_seconds: float = 300.0
    generate_setting: str = "rollout.generate_deadline_seconds"
    """Key of the config that sets it, for error messages."""
    load_deadline_seconds: float = 300.0
    """Includes the wait for replies that are still being generated."""
    max_replacements: int = 3
    """Dead engines replaced during the life of the pool; the next death is an error."""

    def __post_init__(self) -> None:
        """Check the limits and deadlines."""
        within(1, MAX_CONCURRENCY, max_inflight=self.max_inflight)
        at_least(0, max_replacements=self.max_replacements)
        above(
            0,
            start_deadline_seconds=self.start_deadline_seconds,
            generate_deadline_seconds=self.generate_deadline_seconds,
            load_deadline_seconds=self.load_deadline_seconds,
        )
