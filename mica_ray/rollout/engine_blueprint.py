"""How to make an engine in a Ray actor, and the bounds of a pool of them, as values. Knows no Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mica_ray.types import Generation, PolicyWeights, Sampling

MAX_CONCURRENCY = 1024
"""Calls one engine actor takes at once; a pool's own bound lies below it."""


class PooledEngine(Protocol):
    """What a pool asks of the class it starts in its actors: an engine that says which version it loaded."""

    async def version(self) -> int:
        """Give the version of the weights, -1 before the first. Answers once the engine is ready."""
        ...

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        """Sample one reply."""
        ...

    async def load_weights(self, weights: PolicyWeights) -> int:
        """Take new weights; give the version now loaded."""
        ...

    async def close(self) -> None:
        """Free what the engine holds."""
        ...


@dataclass(frozen=True, slots=True)
class EngineBlueprint:
    """One engine: class, arguments, and what its actor needs."""

    engine: type[PooledEngine]
    arguments: tuple[object, ...] = ()
    """Positional, picklable."""
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Environment variables of the actor's process."""


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Bounds of a pool. Every wait for an engine has one of these deadlines."""

    max_inflight: int = 256
    """Replies asked for at once, over all engines; more wait here."""
    start_deadline_seconds: float = 600.0
    generate_deadline_seconds: float = 300.0
    load_deadline_seconds: float = 300.0
    """Includes the end of the replies in the making."""
    max_replacements: int = 3
    """Engines made anew over the life of the pool."""

    def __post_init__(self) -> None:
        """Refuse bounds under which nothing could be done."""
        if not 1 <= self.max_inflight <= MAX_CONCURRENCY:
            raise ValueError(f"max_inflight must be in [1, {MAX_CONCURRENCY}]; got {self.max_inflight}")
        if self.max_replacements < 0:
            raise ValueError(f"max_replacements must be >= 0; got {self.max_replacements}")
        for name in ("start_deadline_seconds", "generate_deadline_seconds", "load_deadline_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0; got {getattr(self, name)}")
