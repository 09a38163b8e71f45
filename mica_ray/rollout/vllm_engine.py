"""vLLM as a policy engine, for life inside one Ray actor. A plain class; who starts it where is `engine_pool.py`.

On CPUs the engine steps in a thread of the actor; on GPUs it is vLLM's AsyncLLM with processes of its own.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from mica_ray.chat.model import JsonSchema
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.engine_blueprint import EngineBlueprint
from mica_ray.rollout.vllm_stepping import SteppingThread
from mica_ray.rollout.vllm_weights import write_bucket
from mica_ray.rollout.weights import WeightBucket, resolve
from mica_ray.types import Generation, PolicyWeights, Sampling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vllm.engine.arg_utils import EngineArgs
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams

_Arguments = TypeVar("_Arguments", bound="EngineArgs")
_RECEIVER = "mica_ray.rollout.vllm_weights.WeightReceiver"
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One vLLM engine. The defaults are an engine on one CPU for a small model."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    max_model_len: int = 1024
    """Tokens of prompt and reply together."""
    tensor_parallel: int = 1
    """GPUs over which one model is split."""
    gpus_per_engine: float = 0.0
    """0: on CPUs. A fraction shares one GPU; with tensor_parallel > 1 it must equal it."""
    cpus_per_engine: int = 1
    """CPUs that Ray reserves for the engine, and its threads."""
    kv_cache_gib: float = 1.0
    """Memory of the key-value cache of one engine, GiB."""
    max_num_seqs: int = 128
    """Replies sampled together."""
    backend: Literal["auto", "in_process", "async"] = "auto"
    """auto: in_process without GPUs, async with. In this process an engine starts ten times faster."""
    enforce_eager: bool | None = None
    """None: without GPUs; compiling for CPUs takes longer than a small run."""
    guidance: bool = True
    """Whether replies can be held to a JSON schema."""

    def __post_init__(self) -> None:
        """Refuse engines that cannot be."""
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f'dtype must be "float32" or "bfloat16"; got {self.dtype!r}')
        if self.backend not in ("auto", "in_process", "async"):
            raise ValueError(f'backend must be "auto", "in_process" or "async"; got {self.backend!r}')
        for name in ("max_model_len", "tensor_parallel", "cpus_per_engine", "max_num_seqs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}")
        if not self.kv_cache_gib > 0:
            raise ValueError(f"kv_cache_gib must be > 0; got {self.kv_cache_gib}")
        if self.gpus_per_engine < 0:
            raise ValueError(f"gpus_per_engine must be >= 0; got {self.gpus_per_engine}")
        if self.tensor_parallel > 1 and self.gpus_per_engine != self.tensor_parallel:
            raise ValueError(
                f"gpus_per_engine must equal tensor_parallel = {self.tensor_parallel}; got {self.gpus_per_engine}"
            )

    @property
    def is_in_process(self) -> bool:
        """Whether the engine steps in a thread of its actor."""
        return self.backend == "in_process" or (self.backend == "auto" and not self.gpus_per_engine)

    @property
    def is_eager(self) -> bool:
        """Whether the model runs uncompiled."""
        return self.enforce_eager if self.enforce_eager is not None else not self.gpus_per_engine


def vllm_blueprint(policy: str | Path, stop_ids: Sequence[int], config: EngineConfig) -> EngineBlueprint:
    """Describe a vLLM engine so that a pool can make it, and make it again.

    Args:
        policy: model folder or hub id, readable on the node of the engine.
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


class _Backend(Protocol):
    """The two ways in which vLLM runs."""

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> RequestOutput: ...

    async def load(self, bucket: WeightBucket) -> None:
        """Only called while nothing is being generated."""
        ...

    async def close(self) -> None: ...


class VllmEngine:
    """`PolicyEngine` over vLLM, and a `GuidedEngine`.

    Consumes prompts, produces replies with the log probability of each sampled token under the distribution it was
    sampled from. New weights wait until the replies in the making are finished, and new replies wait for the weights:
    every reply is made by one version.

    Args:
        policy: model folder or hub id.
        stop_ids: tokens that end a reply.
        config: of the engine.
    """

    def __init__(self, policy: str, stop_ids: tuple[int, ...], config: EngineConfig) -> None:
        self._config = config
        self._stop_ids = list(stop_ids)
        self._backend: _Backend = (_InProcess if config.is_in_process else _Async)(policy, config)
        self._version = -1  # Version 0 is loaded like any other: a resumed run may begin elsewhere.
        self._generating = 0
        self._loading = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    async def version(self) -> int:
        """Give the version of the weights, -1 before the first were loaded. Answers once the engine is ready."""
        return self._version

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        """Sample one reply.

        Raises:
            EngineError: the prompt does not fit the context.
        """
        return await self._generate(prompt_ids, sampling, None)

    async def generate_json(self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema) -> Generation:
        """Sample one reply that satisfies a JSON schema, unless it is cut off. Log probabilities are the guided ones.

        Raises:
            EngineError: the prompt does not fit, or the engine was made without guidance.
        """
        if not self._config.guidance:
            raise EngineError("this engine holds no reply to a schema: set engine.guidance=true")
        return await self._generate(prompt_ids, sampling, schema)

    async def load_weights(self, weights: PolicyWeights) -> int:
        """Take new weights and forget every cached prefix. Loading a version twice does nothing.

        Returns:
            The version now loaded.

        Raises:
            EngineError: the weights are another model's.
        """
        async with self._loading:
            if weights.version != self._version:
                # May come from another node: meanwhile the replies in the making go on.
                bucket = await asyncio.to_thread(resolve, weights)
                await self._idle.wait()
                await self._backend.load(bucket)
                self._version = weights.version
            return self._version

    async def close(self) -> None:
        """Stop vLLM."""
        await self._backend.close()

    async def _generate(self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema | None) -> Generation:
        room = self._config.max_model_len - len(prompt_ids)
        if not prompt_ids or room < 1:
            raise EngineError(
                f"prompt of {len(prompt_ids)} tokens does not fit the context of {self._config.max_model_len}; "
                "raise engine.max_model_len"
            )
        params = _sampling_params(sampling, self._stop_ids, min(sampling.max_tokens, room), schema)
        async with self._turn():
            version = self._version
            output = await self._backend.generate(prompt_ids, params)
        return _generation(output, tuple(prompt_ids), version)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Be one of those who generate; wait while weights are being loaded."""
        async with self._loading if self._loading.locked() else _nothing():
            self._generating += 1
            self._idle.clear()
        try:
            yield
        finally:
            self._generating -= 1
            if not self._generating:
                self._idle.set()


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


class _InProcess:
    """vLLM's synchronous engine, stepped by one thread of this process."""

    def __init__(self, policy: str, config: EngineConfig) -> None:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        self._engine = LLMEngine.from_engine_args(_arguments(EngineArgs, policy, config))
        self._thread = SteppingThread(self._engine)

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> RequestOutput:
        return await self._thread.generate(prompt_ids, params)

    async def load(self, bucket: WeightBucket) -> None:
        def load() -> None:
            self._engine.collective_rpc("receive_bucket", args=(bucket,))
            self._engine.reset_prefix_cache()

        await self._thread.call(load)

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.close)


class _Async:
    """vLLM's asynchronous engine, with processes of its own: the way for GPUs."""

    def __init__(self, policy: str, config: EngineConfig) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._engine = AsyncLLM.from_engine_args(_arguments(AsyncEngineArgs, policy, config))
        self._number = 0

    async def generate(self, prompt_ids: Sequence[int], params: SamplingParams) -> RequestOutput:
        self._number += 1
        last = None
        async for output in self._engine.generate({"prompt_token_ids": list(prompt_ids)}, params, str(self._number)):
            last = output
        if last is None:
            raise EngineError("vLLM ended a reply without output; look into the engine's log")
        return last

    async def load(self, bucket: WeightBucket) -> None:
        # /dev/shm is memory: the workers map it, and no disk is written.
        with tempfile.TemporaryDirectory(dir=_shared_memory()) as folder:
            path = Path(folder) / "weights.npz"
            await asyncio.to_thread(write_bucket, bucket, path)
            await self._engine.collective_rpc("receive_file", args=(str(path),))
        await self._engine.reset_prefix_cache()

    async def close(self) -> None:
        self._engine.shutdown()


def _shared_memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _environment(policy: str | Path, config: EngineConfig) -> Mapping[str, str]:
    """Settings that vLLM reads from the environment of its process, once, on import."""
    environment = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0" if config.is_in_process else "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if Path(policy).is_dir():
        environment["HF_HUB_OFFLINE"] = "1"
    if not config.gpus_per_engine:
        environment["OMP_NUM_THREADS"] = str(config.cpus_per_engine)
        # vLLM would bind its threads to the first CPUs it sees, and so would its neighbours.
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    return environment


def _arguments(kind: type[_Arguments], policy: str, config: EngineConfig) -> _Arguments:
    return kind(
        model=policy,
        dtype=config.dtype,
        max_model_len=config.max_model_len,
        tensor_parallel_size=config.tensor_parallel,
        kv_cache_memory_bytes=int(config.kv_cache_gib * _GIB),
        max_num_seqs=config.max_num_seqs,
        enforce_eager=config.is_eager,
        enable_prefix_caching=True,
        logprobs_mode="processed_logprobs",  # Under temperature and top_p, as the tokens are sampled.
        worker_extension_cls=_RECEIVER,
        generation_config="vllm",  # Sampling follows our arguments alone, not a file in the model folder.
        disable_log_stats=True,
        seed=0,
    )


def _sampling_params(
    sampling: Sampling, stop_ids: list[int], max_tokens: int, schema: JsonSchema | None
) -> SamplingParams:
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        max_tokens=max_tokens,
        stop=list(sampling.stop),
        stop_token_ids=stop_ids,
        logprobs=0,  # The sampled token's own, and no other.
        structured_outputs=None if schema is None else StructuredOutputsParams(json=dict(schema)),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _generation(output: RequestOutput, prompt_ids: tuple[int, ...], version: int) -> Generation:
    reply = output.outputs[0]
    if reply.finish_reason not in ("stop", "length") or reply.logprobs is None:
        raise EngineError(f"vLLM ended a reply with {reply.finish_reason!r}; look into the engine's log")
    token_ids = tuple(reply.token_ids)
    return Generation(
        prompt_ids=prompt_ids,
        token_ids=token_ids,
        logprobs=tuple(step[token].logprob for step, token in zip(reply.logprobs, token_ids, strict=True)),
        text=reply.text,
        finish_reason="stop" if reply.finish_reason == "stop" else "length",
        policy_version=version,
    )
