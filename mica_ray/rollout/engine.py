"""What an engine of the policy in training looks like: tokens in, tokens out, weights by version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mica_ray.types import Generation, PolicyWeights, Sampling


class EngineError(Exception):
    """An engine cannot generate or cannot take weights. The message names the engine and the remedy."""


class PolicyEngine(Protocol):
    """The policy in training, as the rollout sees it."""

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        """Sample one reply.

        Raises:
            EngineError: the engine died, or the prompt does not fit its context.
        """
        ...

    async def load_weights(self, weights: PolicyWeights) -> None:
        """Take new weights and forget every cached prefix. Loading a version twice does nothing."""
        ...

    async def close(self) -> None:
        """Free what the engine holds."""
        ...
