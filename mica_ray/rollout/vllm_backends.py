"""The two ways in which vLLM runs inside an actor: stepped by a thread of it, or with processes of its own.

Both generate from token ids and take a bucket of weights between replies; `vllm_engine.py` sees to the
"between".
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.vllm_stepping import SteppingThread, failure, refusal
from mica_ray.rollout.vllm_weights import write_bucket
from mica_ray.rollout.weights import TransferStep, WeightBucket

if TYPE_CHECKING:
    from vllm.config import WeightTransferConfig
    from vllm.engine.arg_utils import EngineArgs
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams

    from mica_ray.rollout.engine_config import EngineConfig

_Arguments = TypeVar("_Arguments", bound="EngineArgs")
# Named by the module that makes gloo known to vLLM: the worker imports it before it looks for a transport.
_RECEIVER = "mica_ray.rollout.vllm_transfer.WeightReceiver"
_GIB = 2**30


class VllmBackend(Protocol):
    """vLLM as `VllmEngine` needs it."""

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> RequestOutput:
        """Generate one reply."""
        ...

    def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[RequestOutput, None]:
        """Generate one reply and give each output as it comes; closing the generator drops the reply."""
        ...

    async def load(self, bucket: WeightBucket) -> None:
        """Take new weights and forget cached prefixes. Only called while nothing is being generated."""
        ...

    async def transfer(self, step: TransferStep, payload: Mapping[str, object] | None) -> None:
        """Do one step of vLLM's weight transfer in every worker; it ends when the sender's part has.

        Only called while nothing is being generated. The last step forgets cached prefixes.
        """
        ...

    async def close(self) -> None:
        """Stop vLLM."""
        ...


class InProcessBackend:
    """vLLM's synchronous engine, stepped by one thread of this process."""

    def __init__(self, policy: str, config: EngineConfig) -> None:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        self._engine = LLMEngine.from_engine_args(_arguments(EngineArgs, policy, config))
        self._thread = SteppingThread(self._engine)

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> RequestOutput:
        """Generate one reply."""
        return await self._thread.generate(prompt_ids, params)

    def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[RequestOutput, None]:
        """Generate one reply and give each output as it comes; closing the generator drops the reply."""
        return self._thread.stream(prompt_ids, params)

    async def load(self, bucket: WeightBucket) -> None:
        """Put the bucket into the model of every worker."""

        def load() -> None:
            self._engine.collective_rpc("receive_bucket", args=(bucket,))
            self._engine.reset_prefix_cache()

        await self._thread.call(load)

    async def transfer(self, step: TransferStep, payload: Mapping[str, object] | None) -> None:
        """Do one step in every worker."""

        def take_step() -> None:
            for method, arguments in _calls(step, payload):
                self._engine.collective_rpc(method, args=arguments)
            if step == "finish":
                self._engine.reset_prefix_cache()

        await self._thread.call(take_step)

    async def close(self) -> None:
        """Stop vLLM."""
        await asyncio.to_thread(self._thread.close)


class AsyncBackend:
    """vLLM's asynchronous engine, with processes of its own: the way for GPUs."""

    def __init__(self, policy: str, config: EngineConfig) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._engine = AsyncLLM.from_engine_args(_arguments(AsyncEngineArgs, policy, config))
        self._number = 0

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> RequestOutput:
        """Generate one reply."""
        last = None
        async for output in self.stream(prompt_ids, params):
            last = output
        if last is None:
            raise EngineError("vLLM ended a reply without output; look into the engine's log")
        return last

    async def stream(
        self, prompt_ids: Sequence[int], params: SamplingParams
    ) -> AsyncGenerator[RequestOutput, None]:
        """Generate one reply and give each output as it comes; closing the generator drops the reply."""
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        self._number += 1
        outputs = self._engine.generate({"prompt_token_ids": list(prompt_ids)}, params, str(self._number))
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    yield output
        except ValueError as error:  # vLLM refuses this request alone.
            raise refusal(error) from error
        except (EngineDeadError, EngineGenerateError) as error:
            raise failure(error) from error

    async def load(self, bucket: WeightBucket) -> None:
        """Put the bucket into the model of every worker."""
        # /dev/shm is memory: the workers map it, and no disk is written.
        with tempfile.TemporaryDirectory(dir=_shared_memory()) as folder:
            path = Path(folder) / "weights.npz"
            await asyncio.to_thread(write_bucket, bucket, path)
            await self._engine.collective_rpc("receive_file", args=(str(path),))
        await self._engine.reset_prefix_cache()

    async def transfer(self, step: TransferStep, payload: Mapping[str, object] | None) -> None:
        """Do one step in every worker."""
        for method, arguments in _calls(step, payload):
            await self._engine.collective_rpc(method, args=arguments)
        if step == "finish":
            await self._engine.reset_prefix_cache()

    async def close(self) -> None:
        """Stop vLLM."""
        self._engine.shutdown()


def _calls(step: TransferStep, payload: Mapping[str, object] | None) -> list[tuple[str, tuple[object, ...]]]:
    """Give what a step calls in vLLM's workers, in order: its own methods and our receiver's."""
    if step == "init":
        return [("init_weight_transfer_engine", (payload,))]
    if step == "start":
        return [("start_weight_update", ())]
    if step == "update" and payload is not None:
        incoming = (payload["names"], payload["shapes"])
        return [("check_incoming", incoming), ("update_weights", (payload,))]
    return [("finish_weight_update", ()), ("finish_incoming", ())]


def _shared_memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _arguments(kind: type[_Arguments], policy: str, config: EngineConfig) -> _Arguments:
    return kind(
        model=policy,
        dtype=config.dtype,
        max_model_len=config.max_model_len,
        tensor_parallel_size=config.tensor_parallel,
        kv_cache_memory_bytes=int(config.kv_cache_gib * _GIB),
        max_num_seqs=config.max_num_seqs,
        enforce_eager=config.is_eager,
        # On CPUs the model runs in the engine's process, which would otherwise spin on a core of its own.
        distributed_executor_backend=None if config.gpus_per_engine else "uni",
        enable_prefix_caching=True,
        # vLLM rewinds the generator of a seeded reply whose prompt it takes in parts; CPU generators cannot.
        enable_chunked_prefill=config.gpus_per_engine > 0,
        logprobs_mode="processed_logprobs",  # Under temperature and top_p, as the tokens are sampled.
        worker_extension_cls=_RECEIVER,
        weight_transfer_config=_transfer_config(config),
        generation_config="vllm",  # Sampling follows our arguments alone, not a file in the model folder.
        disable_log_stats=True,
        seed=0,
    )


def _transfer_config(config: EngineConfig) -> WeightTransferConfig | None:
    if config.weight_transfer == "bucket":
        return None
    from vllm.config import WeightTransferConfig

    return WeightTransferConfig(backend=config.weight_transfer)
