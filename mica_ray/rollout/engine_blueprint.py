"""How to make one engine in a Ray actor, as a value: a pool makes engines from it, and makes dead ones again. No Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mica_ray.types import Generation, PolicyWeights, Sampling


class PooledEngine(Protocol):
    """What a pool asks of the class it starts in its actors: a policy engine that says which version it loaded."""

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
