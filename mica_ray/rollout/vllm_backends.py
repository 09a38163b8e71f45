"""The two ways to run vLLM in an actor: stepped by a thread, or in vLLM's own processes.

Both generate from token ids and load weights between replies; vllm_engine.py waits for that moment.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from mica_ray.heap import release_freed_memory
from mica_ray.rollout.adapters.vllm_adapters import (
    VllmAdapters,
    buffer_rank,
    shared_memory,
    takes_adapters,
)
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.vllm.stepping import SteppingThread, bad_ending, failure, refusal
from mica_ray.rollout.vllm_weights import write_bucket
from mica_ray.rollout.weights import TransferStep, WeightBucket

if TYPE_CHECKING:
    from vllm.config import WeightTransferConfig
    from vllm.engine.arg_utils import EngineArgs
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams

    from mica_ray.rollout.engine_config import EngineConfig

SleepingPart = Literal["weights", "kv_cache"]
_Arguments = TypeVar("_Arguments", bound="EngineArgs")
# The worker imports this module, which registers gloo with vLLM, before it looks for a transport.
_RECEIVER = "mica_ray.rollout.vllm_transfer.WeightReceiver"
_GIB = 2**30
_CLEARINGS = 50
"""Attempts to clear the prefix cache."""


class VllmBackend(Protocol):
    """The calls to vLLM that `VllmEngine` needs."""

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> RequestOutput:
        """Generate one reply."""
        ...

    def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams, adapter: str = ""
    ) -> AsyncGenerator[RequestOutput, None]:
        """Generate one reply and yield each output; closing the generator drops the reply.

        Args:
            prompt_ids: the prompt.
            params: how to sample.
            adapter: id of a served adapter; empty: none, or the newest one of a learner.
        """
        ...

    async def load(self, buckets: Sequence[WeightBucket]) -> None:
        """Load new weights and clear the prefix cache. Only called while no reply is generated."""
        ...

    async def sleep(self, level: int) -> None:
        """Free the device memory of the cache (level 1 and 2) and of the weights (2; 1 keeps a host copy)."""
        ...

    async def wake(self, part: SleepingPart) -> None:
        """Take back the memory of a part. After level 2 the weights are undefined until `load`."""
        ...

    async def transfer(self, step: TransferStep, payload: Mapping[str, object] | None) -> None:
        """Run one step of vLLM's weight transfer in every worker, until the sender is done.

        Only called while no reply is generated. The last step clears the prefix cache.
        """
        ...

    async def close(self) -> None:
        """Stop vLLM."""
        ...


class InProcessBackend:
    """vLLM's synchronous engine, stepped by one thread of this process. The default on CPUs."""

    def __init__(
        self, policy: str, config: EngineConfig, *, adapters: Mapping[str, str] | None = None
    ) -> None:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        arguments = engine_arguments(EngineArgs, policy, config)
        self._adapters = VllmAdapters(is_supported=arguments.enable_lora, served=adapters)
        self._engine = LLMEngine.from_engine_args(arguments)
        self._thread = SteppingThread(self._engine)
        # vLLM packs every weight matrix when it is loaded, and frees the plain one: a third of the model.
        release_freed_memory()

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> RequestOutput:
        """Generate one reply."""
        return await self._thread.generate(prompt_ids, params, self._adapters.request())

    def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams, adapter: str = ""
    ) -> AsyncGenerator[RequestOutput, None]:
        """Generate one reply and yield each output; closing the generator drops the reply."""
        return self._thread.stream(prompt_ids, params, self._adapters.request(adapter))

    async def load(self, buckets: Sequence[WeightBucket]) -> None:
        """Load the buckets into the model of every worker, or an adapter beside it."""

        def load() -> None:
            if self._adapters.takes(buckets):
                old, new = self._adapters.replace(buckets)
                if old is not None:
                    self._engine.remove_lora(old.lora_int_id)
                self._engine.add_lora(new)
            else:
                self._engine.collective_rpc("receive_buckets", args=tuple(buckets))
                release_freed_memory()

        await self._thread.call(load)
        await self._clear_cache()

    async def sleep(self, level: int) -> None:
        """Free device memory."""
        await self._thread.call(lambda: self._engine.sleep(level))

    async def wake(self, part: SleepingPart) -> None:
        """Take back the memory of a part."""
        await self._thread.call(lambda: self._engine.wake_up([part]))

    async def transfer(self, step: TransferStep, payload: Mapping[str, object] | None) -> None:
        """Run one step in every worker."""

        def take_step() -> None:
            for method, arguments in _calls(step, payload):
                self._engine.collective_rpc(method, args=arguments)

        await self._thread.call(take_step)
        if step == "finish":
            await self._clear_cache()

    async def close(self) -> None:
        """Stop vLLM."""
        await asyncio.to_thread(self._thread.close)

    async def _clear_cache(self) -> None:
        await clear_cache(lambda: self._thread.call(self._engine.reset_prefix_cache))


class AsyncBackend:
    """vLLM's asynchronous engine in its own processes. The default on GPUs.

    Args:
        policy: model folder or hub id.
        config: of the engine.
        has_metrics: whether vLLM's metrics join the Prometheus registry of this process.
        adapters: folders of adapters to serve, by id.
    """

    def __init__(
        self,
        policy: str,
        config: EngineConfig,
        *,
        has_metrics: bool = False,
        adapters: Mapping[str, str] | None = None,
    ) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        arguments = replace(
            engine_arguments(AsyncEngineArgs, policy, config), disable_log_stats=not has_metrics
        )
        self._adapters = VllmAdapters(is_supported=arguments.enable_lora, served=adapters)
        self._engine = AsyncLLM.from_engine_args(arguments)
        self._number = 0

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> RequestOutput:
        """Generate one reply."""
        last = None
        async for output in self.stream(prompt_ids, params):
            last = output
        if last is None:
            raise bad_ending("no output")
        return last

    async def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams, adapter: str = ""
    ) -> AsyncGenerator[RequestOutput, None]:
        """Generate one reply and yield each output; closing the generator drops the reply."""
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        self._number += 1
        outputs = self._engine.generate(
            {"prompt_token_ids": list(prompt_ids)},
            params,
            str(self._number),
            lora_request=self._adapters.request(adapter),
        )
        has_begun = False
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    has_begun = True
                    yield output
        except EngineDeadError as error:
            raise failure(error) from error
        except EngineGenerateError as error:
            # vLLM raises this for every unexpected error of one request. Before the first output it is one of
            # reading the request, and the engine keeps running.
            raise failure(error) if has_begun or self._engine.errored else refusal(error) from error
        except Exception as error:  # vLLM rejects this request, for whatever reason, and keeps running.
            raise refusal(error) from error

    async def load(self, buckets: Sequence[WeightBucket]) -> None:
        """Load the buckets into the model of every worker, or an adapter beside it."""
        if self._adapters.takes(buckets):
            old, new = self._adapters.replace(buckets)
            if old is not None:
                await self._engine.remove_lora(old.lora_int_id)
            await self._engine.add_lora(new)
        else:
            # /dev/shm is memory: the workers map the files, and nothing is written to a disk.
            with tempfile.TemporaryDirectory(dir=shared_memory()) as folder:
                paths = [Path(folder) / f"weights-{number}.npz" for number in range(len(buckets))]
                for bucket, path in zip(buckets, paths, strict=True):
                    await asyncio.to_thread(write_bucket, bucket, path)
                await self._engine.collective_rpc("receive_files", args=tuple(map(str, paths)))
        await clear_cache(self._engine.reset_prefix_cache)

    async def sleep(self, level: int) -> None:
        """Free device memory."""
        await self._engine.sleep(level)

    async def wake(self, part: SleepingPart) -> None:
        """Take back the memory of a part."""
        await self._engine.wake_up([part])

    async def transfer(self, step: TransferStep, payload: Mapping[str, object] | None) -> None:
        """Run one step in every worker."""
        for method, arguments in _calls(step, payload):
            await self._engine.collective_rpc(method, args=arguments)
        if step == "finish":
            await clear_cache(self._engine.reset_prefix_cache)

    async def close(self) -> None:
        """Stop vLLM."""
        self._engine.shutdown()


async def clear_cache(reset: Callable[[], Awaitable[bool]], *, pause_seconds: float = 0.1) -> None:
    """Clear vLLM's prefix cache, which was computed with the earlier weights.

    vLLM refuses while a request holds a part of the cache: one that was just aborted does for a moment.

    Args:
        reset: vLLM's call; returns whether the cache is cleared.
        pause_seconds: between attempts.

    Raises:
        EngineError: it refuses repeatedly.
    """
    for _ in range(_CLEARINGS):
        if await reset():
            return
        await asyncio.sleep(pause_seconds)
    raise EngineError(
        "vLLM does not clear its prefix cache: replies would mix earlier weights with the new ones. Check "
        "the engine's log for requests that do not end."
    )


def _calls(step: TransferStep, payload: Mapping[str, object] | None) -> list[tuple[str, tuple[object, ...]]]:
    """Return the worker methods that a step calls, in order: vLLM's own and our receiver's."""
    if step == "init":
        return [("init_weight_transfer_engine", (payload,))]
    if step == "start":
        return [("start_weight_update", ())]
    if step == "update" and payload is not None:
        incoming = (payload["names"], payload["shapes"])
        return [("check_incoming", incoming), ("update_weights", (payload,))]
    return [("finish_weight_update", ()), ("finish_incoming", ())]


def engine_arguments(kind: type[_Arguments], policy: str, config: EngineConfig) -> _Arguments:
    """Return vLLM's arguments for an engine.

    With `lora_rank` vLLM computes adapters itself, if it can for the architecture of the model; otherwise the
    worker adds them to the weights (vllm_weights.py).

    Args:
        kind: of the arguments: those of the synchronous or the asynchronous engine.
        policy: model folder or hub id.
        config: of the engine.
    """
    arguments = _arguments(kind, policy, config)
    if not config.lora_rank or not takes_adapters(arguments):
        return arguments
    return replace(
        arguments,
        enable_lora=True,
        max_lora_rank=buffer_rank(config.lora_rank),
        max_loras=config.lora_slots,
    )


def _arguments(kind: type[_Arguments], policy: str, config: EngineConfig) -> _Arguments:
    share: dict[str, Any] = (
        {} if config.memory_share is None else {"gpu_memory_utilization": config.memory_share}
    )
    return kind(
        model=policy,
        dtype=config.dtype,
        max_model_len=config.max_model_len,
        tensor_parallel_size=config.tensor_parallel,
        kv_cache_memory_bytes=int(config.kv_cache_gib * _GIB),
        enable_sleep_mode=config.sleep_level > 0,
        max_num_seqs=config.max_num_seqs,
        enforce_eager=config.is_eager,
        # On CPUs the model runs in the engine's process; a separate worker process would spin on one core.
        distributed_executor_backend=None if config.gpus_per_engine else "uni",
        enable_prefix_caching=True,
        # vLLM rewinds the random generator of a seeded reply after a chunked prompt; CPU generators cannot.
        enable_chunked_prefill=config.gpus_per_engine > 0,
        logprobs_mode="processed_logprobs",  # With temperature and top_p applied, as the tokens are sampled.
        worker_extension_cls=_RECEIVER,
        weight_transfer_config=_transfer_config(config),
        generation_config="vllm",  # Only our arguments decide the sampling, not a file in the model folder.
        disable_log_stats=True,
        seed=0,
        **share,
    )


def _transfer_config(config: EngineConfig) -> WeightTransferConfig | None:
    if config.weight_transfer == "bucket":
        return None
    from vllm.config import WeightTransferConfig

    return WeightTransferConfig(backend=config.weight_transfer)
