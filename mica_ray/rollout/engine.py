"""What an engine of the policy in training looks like: tokens in, tokens out, weights by version."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

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


@runtime_checkable
class RoutingEngine(Protocol):
    """An engine of several replicas that can keep a dialogue on one of them, where its prefix is cached."""

    def route(self, key: int) -> PolicyEngine:
        """Return the replica that serves this dialogue: equal keys, equal replicas."""
        ...


@dataclass(frozen=True, slots=True)
class GeneratedPiece:
    """A part of a reply on its way."""

    text: str
    num_tokens: int
    finish_reason: Literal["stop", "length"] | None
    """None in every piece but the last."""


@runtime_checkable
class StreamingEngine(Protocol):
    """An engine that gives a reply while it samples it."""

    def stream(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, piece_seconds: float | None
    ) -> AsyncGenerator[GeneratedPiece, None]:
        """Sample one reply and give its text as it grows; closing the generator ends the sampling.

        Args:
            prompt_ids: the prompt.
            sampling: how to sample.
            piece_seconds: about as long grows each piece but the first, which comes at once; None gives the
                whole reply as the only piece.

        Raises:
            EngineError: the engine died, or the prompt does not fit its context.
        """
        ...
