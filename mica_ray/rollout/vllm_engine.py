"""vLLM as a policy engine inside one Ray actor, started by rollout/engine_pool.py.

How vLLM itself runs, in a thread or in its own processes, is in vllm_backends.py; the types of both sides of
a reply in vllm/replies.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.chat.model import JsonSchema
from mica_ray.error_lines import raised_as
from mica_ray.rollout.engine import EngineError, GeneratedChunk, reply_room
from mica_ray.rollout.engine_blueprint import EngineBlueprint
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.rollout.reply_pace import ReplyPace
from mica_ray.rollout.vllm.replies import (
    chunk_of,
    generation_of,
    sampling_params,
    set_options,
    stream_in_chunks,
)
from mica_ray.rollout.vllm.stepping import refusal
from mica_ray.rollout.vllm_backends import AsyncBackend, InProcessBackend, VllmBackend
from mica_ray.rollout.weights import Incoming, TransferStep, WeightBucket, resolve
from mica_ray.types import Generation, PolicyWeights, ReplyOptions, Sampling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vllm.sampling_params import SamplingParams


def vllm_blueprint(policy: str | Path, stop_ids: Sequence[int], config: EngineConfig) -> EngineBlueprint:
    """Return the blueprint from which a pool starts and restarts a vLLM engine.

    Args:
        policy: model folder or hub id, readable on the engine's node.
        stop_ids: tokens that end a reply (ChatTemplate.stop_ids).
        config: of the engine.
    """
    return EngineBlueprint(
        engine=VllmEngine,
        arguments=(str(policy), tuple(stop_ids), config),
        num_cpus=config.cpus_per_engine,
        num_gpus=config.gpus_per_engine,
        environment=_environment(policy, config),
    )


class VllmEngine:
    """`PolicyEngine` over vLLM, and a `GuidedEngine`.

    Consumes prompts, produces replies with the log probability of each sampled token under the distribution
    it was sampled from. New weights wait for the replies being generated, and new replies wait for the
    weights, so one weight version generates each whole reply.

    Args:
        policy: model folder or hub id.
        stop_ids: tokens that end a reply.
        config: of the engine.
        keeps_special_tokens: whether the text of a reply contains its special tokens.
        has_metrics: whether vLLM's metrics join the Prometheus registry of this process; an engine that runs
            in a thread has none.
        adapters: folders of adapters to serve, by id; `ReplyOptions.adapter` chooses one.
        backend: runs vLLM; None starts the one that the config names.
    """

    def __init__(
        self,
        policy: str,
        stop_ids: tuple[int, ...],
        config: EngineConfig,
        *,
        keeps_special_tokens: bool = False,
        has_metrics: bool = False,
        adapters: Mapping[str, str] | None = None,
        backend: VllmBackend | None = None,
    ) -> None:
        self._config = config
        self._keeps_special_tokens = keeps_special_tokens
        self._stop_ids = list(stop_ids)
        self._backend = backend or _start(policy, config, has_metrics, adapters)
        self._pace = ReplyPace()
        self._version = -1  # Version 0 is loaded too: the folder may hold other weights than a resumed run.
        self._generating = 0
        self._loading = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_asleep = False
        self._is_receiving, self._received = asyncio.Event(), asyncio.Event()

    async def version(self) -> int:
        """Return the version of the weights, -1 before the first. Returns once the engine is ready."""
        return self._version

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        """Sample one reply.

        Raises:
            EngineError: the prompt does not fit the context.
        """
        return await self._generate(prompt_ids, sampling, None)

    async def generate_json(
        self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema
    ) -> Generation:
        """Sample one reply that satisfies a JSON schema, unless it is truncated.

        Log probabilities are those of the constrained distribution.

        Raises:
            EngineError: the prompt does not fit, or structured output is disabled.
        """
        if not self._config.guidance:
            raise EngineError("Structured output is disabled. Set engine.guidance=true.")
        return await self._generate(prompt_ids, sampling, schema)

    async def stream(
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
            EngineError: the prompt does not fit the context, or structured output is disabled.
        """
        options = options or ReplyOptions()
        if options.schema is not None and not self._config.guidance:
            raise EngineError("Structured output is disabled. Set engine.guidance=true.")
        params = self._params(prompt_ids, sampling, options.schema)
        set_options(params, options)
        if chunk_seconds is not None:
            stream_in_chunks(params, self._pace.tokens_in(chunk_seconds))
        clock, began, num_tokens = asyncio.get_running_loop().time, None, 0
        stream = self._backend.stream(prompt_ids, params, options.adapter)
        async with self._turn(), aclosing(stream) as outputs:
            async for output in outputs:
                chunk = chunk_of(output, options.top_logprobs)
                if began is None:
                    began = clock()
                else:
                    num_tokens += chunk.num_tokens
                if chunk.finish_reason is not None:
                    self._pace.add(num_tokens, clock() - began)
                yield chunk

    async def load_weights(self, weights: PolicyWeights) -> int:
        """Load new weights and clear the prefix cache. Loading a version twice does nothing.

        Returns:
            The version now loaded.

        Raises:
            EngineError: the weights belong to another model.
        """
        async with self._loading:
            if isinstance(weights.source, Incoming):
                # Even for a version already loaded: the sender waits for every member of its group.
                await self._receive()
            elif weights.version != self._version or self._is_asleep:
                # The buckets may come from another node. Replies in flight continue; new ones wait.
                buckets = await asyncio.to_thread(resolve, weights)
                await self._idle.wait()
                await self._load(buckets)
            self._version = weights.version
            return self._version

    async def sleep(self) -> None:
        """Free device memory until the next `load_weights`; does nothing if `sleep_level` is 0."""
        if not self._config.sleep_level:
            return
        async with self._loading:
            await self._idle.wait()
            if not self._is_asleep:
                await self._backend.sleep(self._config.sleep_level)
                self._is_asleep = True

    async def transfer(self, step: TransferStep, payload: Mapping[str, object] | None) -> None:
        """Run one step of a transfer at the sender's request; wait until `load_weights` expects it.

        Raises:
            EngineError: the weights belong to another model.
        """
        await self._is_receiving.wait()
        await self._backend.transfer(step, payload)
        if step == "finish":
            self._received.set()

    async def close(self) -> None:
        """Stop vLLM."""
        await self._backend.close()

    async def _load(self, buckets: Sequence[WeightBucket]) -> None:
        """Load weights; an engine that sleeps wakes around it, the cache last, when the buckets are freed."""
        if self._is_asleep:
            await self._backend.wake("weights")
        await self._backend.load(buckets)
        if self._is_asleep:
            await self._backend.wake("kv_cache")
            self._is_asleep = False

    async def _receive(self) -> None:
        """Wait while a sender writes the weights; no reply is generated. The caller has a deadline."""
        await self._idle.wait()
        self._received.clear()
        self._is_receiving.set()
        try:
            await self._received.wait()
        finally:
            self._is_receiving.clear()

    async def _generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema | None
    ) -> Generation:
        params = self._params(prompt_ids, sampling, schema)
        async with self._turn():
            version = self._version
            output = await self._backend.generate(prompt_ids, params)
        return generation_of(output, tuple(prompt_ids), version)

    def _params(
        self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema | None = None
    ) -> SamplingParams:
        room = reply_room(prompt_ids, sampling, context_length=self._config.max_model_len)
        try:
            params = sampling_params(sampling, self._stop_ids, room, schema)
        except Exception as error:  # All are about this request, whatever their class.
            raise refusal(error) from error
        params.skip_special_tokens = not self._keeps_special_tokens
        return params

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Count one generation in flight; wait first while weights are being loaded."""
        if self._is_asleep:
            raise EngineError("The engine sleeps. Load weights first, which wakes it.")
        async with self._loading if self._loading.locked() else _nothing():
            self._generating += 1
            self._idle.clear()
        try:
            yield
        finally:
            self._generating -= 1
            if not self._generating:
                self._idle.set()


def _start(
    policy: str, config: EngineConfig, has_metrics: bool, adapters: Mapping[str, str] | None
) -> VllmBackend:
    remedy = "Check the model folder and the keys under engine."
    with raised_as(EngineError, f"vLLM cannot load {policy}", remedy):
        if config.is_in_process:
            return InProcessBackend(policy, config, adapters=adapters)
        return AsyncBackend(policy, config, has_metrics=has_metrics, adapters=adapters)


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


def _environment(policy: str | Path, config: EngineConfig) -> Mapping[str, str]:
    """Return the environment variables that vLLM reads once, on import."""
    environment = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0" if config.is_in_process or not config.gpus_per_engine else "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if Path(policy).is_dir():
        environment["HF_HUB_OFFLINE"] = "1"
    if not config.gpus_per_engine:
        environment["OMP_NUM_THREADS"] = str(config.cpus_per_engine)
        # vLLM would bind its threads to the first CPUs it sees, and so would other engines on the node.
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    return environment
