"""Protocols of an engine that serves the policy: tokens in, tokens out, weights by version."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from mica_ray.types import Generation, PolicyWeights, ReplyOptions, Sampling, TokenLogprob


class EngineError(Exception):
    """An engine cannot generate or load weights. The message names the engine and the remedy."""


def checked_logprobs(generation: Generation) -> Generation:
    """Return a reply whose log probabilities are numbers.

    A single NaN would make the loss of the whole step NaN. The reply counts as failed instead.

    Raises:
        EngineError: a log probability is NaN or infinite.
    """
    for place, logprob in enumerate(generation.logprobs):
        if not math.isfinite(logprob):
            raise EngineError(
                f"The engine returned a log probability of {logprob} for token {place} of a reply (weights "
                f"version {generation.policy_version}). If all replies fail, the weights or the engine's "
                "number format are at fault: check grad_norm, and engine.dtype."
            )
    return generation


class RequestRefused(EngineError):
    """The engine cannot serve this one request. It is no failure: the engine keeps running."""


def reply_room(prompt_ids: Sequence[int], sampling: Sampling, *, context_length: int) -> int:
    """Return the largest number of tokens that the reply may have in the engine's context.

    Raises:
        RequestRefused: the prompt is empty or fills the context.
    """
    room = context_length - len(prompt_ids)
    if not prompt_ids or room < 1:
        raise RequestRefused(
            f"A prompt of {len(prompt_ids)} tokens does not fit the engine's context of {context_length} "
            "tokens. Raise the engine's max_model_len, or shorten the prompt."
        )
    return min(sampling.max_tokens, room)


class PolicyEngine(Protocol):
    """The policy as the rollout sees it."""

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        """Sample one reply.

        Raises:
            EngineError: the engine died, or the prompt does not fit its context.
        """
        ...

    async def load_weights(self, weights: PolicyWeights) -> None:
        """Load new weights and clear the prefix cache. Loading a version twice does nothing."""
        ...

    async def close(self) -> None:
        """Release the engine's resources."""
        ...


@runtime_checkable
class SleepingEngine(Protocol):
    """An engine that can free the memory of its device while a learner works there."""

    async def sleep(self) -> None:
        """Free the memory until the next `load_weights`, once the replies in flight are complete.

        Raises:
            EngineError: the engine died.
        """
        ...


@runtime_checkable
class RoutingEngine(Protocol):
    """An engine of several replicas that keeps a dialogue on one, where its prefix is cached."""

    def route(self, key: int) -> PolicyEngine:
        """Return the replica that serves this dialogue: equal keys, equal replicas."""
        ...


@dataclass(frozen=True, slots=True)
class GeneratedChunk:
    """One chunk of a streamed reply."""

    text: str
    num_tokens: int
    finish_reason: Literal["stop", "length"] | None
    """None except in the last chunk."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the chunk's tokens, if the options ask for them."""


@runtime_checkable
class StreamingEngine(Protocol):
    """An engine that streams a reply while it samples it."""

    def stream(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        chunk_seconds: float | None,
        options: ReplyOptions | None = None,
    ) -> AsyncGenerator[GeneratedChunk, None]:
        """Sample one reply and yield its text in chunks; closing the generator stops the sampling.

        Args:
            prompt_ids: the prompt.
            sampling: how to sample.
            chunk_seconds: target duration of one chunk; the first chunk is sent at once. None sends the whole
                reply as one chunk.
            options: penalties, limits, log probabilities and schema; None: none.

        Raises:
            EngineError: the engine died, the prompt does not fit its context, or it has no such option.
        """
        ...
