"""vLLM as a policy engine, for life inside one Ray actor. A plain class; `engine_pool.py` starts it.

On CPUs the engine steps in a thread of the actor; on GPUs it is vLLM's AsyncLLM with processes of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mica_ray.chat.model import JsonSchema
from mica_ray.rollout.engine import EngineError, GeneratedPiece
from mica_ray.rollout.engine_blueprint import EngineBlueprint
from mica_ray.rollout.vllm_backends import AsyncBackend, Backend, InProcessBackend
from mica_ray.rollout.weights import Incoming, TransferKind, TransferStep, resolve
from mica_ray.types import Generation, PolicyWeights, Sampling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams

_TOKENS_PER_PIECE = 4
"""Of a streamed reply after its first: nobody sees a difference, and each piece passes several processes."""


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
    weight_transfer: Literal["bucket"] | TransferKind = "bucket"
    """How weights come. bucket: through Ray's object store. nccl: from the learner's first GPU straight to
    the engines' own, each on GPUs that nobody shares; gloo: the same path between CPUs."""

    def __post_init__(self) -> None:
        """Refuse engines that cannot be."""
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f'dtype must be "float32" or "bfloat16"; got {self.dtype!r}')
        if self.backend not in ("auto", "in_process", "async"):
            raise ValueError(f'backend must be "auto", "in_process" or "async"; got {self.backend!r}')
        if self.weight_transfer not in ("bucket", "nccl", "gloo"):
            raise ValueError(
                f'weight_transfer must be "bucket", "nccl" or "gloo"; got {self.weight_transfer!r}'
            )
        if self.weight_transfer == "nccl" and self.gpus_per_engine < 1:
            raise ValueError(
                f"weight_transfer=nccl needs whole GPUs, gpus_per_engine >= 1; got {self.gpus_per_engine}"
            )
        for name in ("max_model_len", "tensor_parallel", "cpus_per_engine", "max_num_seqs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}")
        if not self.kv_cache_gib > 0:
            raise ValueError(f"kv_cache_gib must be > 0; got {self.kv_cache_gib}")
        if self.gpus_per_engine < 0:
            raise ValueError(f"gpus_per_engine must be >= 0; got {self.gpus_per_engine}")
        if self.tensor_parallel > 1 and self.gpus_per_engine != self.tensor_parallel:
            raise ValueError(
                f"gpus_per_engine must equal tensor_parallel = {self.tensor_parallel}; "
                f"got {self.gpus_per_engine}"
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


class VllmEngine:
    """`PolicyEngine` over vLLM, and a `GuidedEngine`.

    Consumes prompts, produces replies with the log probability of each sampled token under the distribution
    it was sampled from. New weights wait until the replies in the making are finished, and new replies wait
    for the weights: every reply is made by one version.

    Args:
        policy: model folder or hub id.
        stop_ids: tokens that end a reply.
        config: of the engine.
    """

    def __init__(self, policy: str, stop_ids: tuple[int, ...], config: EngineConfig) -> None:
        self._config = config
        self._stop_ids = list(stop_ids)
        self._backend: Backend = (InProcessBackend if config.is_in_process else AsyncBackend)(policy, config)
        self._version = -1  # Version 0 is loaded like any other: a resumed run may begin elsewhere.
        self._generating = 0
        self._loading = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_receiving, self._received = asyncio.Event(), asyncio.Event()

    async def version(self) -> int:
        """Give the version of the weights, -1 before the first. Answers once the engine is ready."""
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
        """Sample one reply that satisfies a JSON schema, unless it is cut off.

        Log probabilities are those of the guided distribution.

        Raises:
            EngineError: the prompt does not fit, or the engine was made without guidance.
        """
        if not self._config.guidance:
            raise EngineError("this engine holds no reply to a schema: set engine.guidance=true")
        return await self._generate(prompt_ids, sampling, schema)

    async def stream(
        self, prompt_ids: Sequence[int], sampling: Sampling, *, in_pieces: bool = True
    ) -> AsyncGenerator[GeneratedPiece, None]:
        """Sample one reply and give its text as it grows; closing the generator ends the sampling.

        Args:
            prompt_ids: the prompt.
            sampling: how to sample.
            in_pieces: False gives the whole reply as the only piece.

        Raises:
            EngineError: the prompt does not fit the context.
        """
        params = _sampling_params(sampling, self._stop_ids, self._room(prompt_ids, sampling), None)
        params.logprobs = None  # Text alone is asked for.
        if in_pieces:
            _give_in_pieces(params)
        async with self._turn(), aclosing(self._backend.stream(prompt_ids, params)) as outputs:
            async for output in outputs:
                yield _piece(output)

    async def load_weights(self, weights: PolicyWeights) -> int:
        """Take new weights and forget every cached prefix. Loading a version twice does nothing.

        Returns:
            The version now loaded.

        Raises:
            EngineError: the weights are another model's.
        """
        async with self._loading:
            if isinstance(weights.source, Incoming):
                # Even a version that is here: the sender counts on every member of its group.
                await self._receive()
            elif weights.version != self._version:
                # May come from another node: meanwhile the replies in the making go on.
                bucket = await asyncio.to_thread(resolve, weights)
                await self._idle.wait()
                await self._backend.load(bucket)
            self._version = weights.version
            return self._version

    async def transfer(self, step: TransferStep, payload: Mapping[str, object] | None) -> None:
        """Do one step of a transfer, as the sender asks; waits until `load_weights` has been told of it.

        Raises:
            EngineError: the weights are another model's.
        """
        await self._is_receiving.wait()
        await self._backend.transfer(step, payload)
        if step == "finish":
            self._received.set()

    async def close(self) -> None:
        """Stop vLLM."""
        await self._backend.close()

    async def _receive(self) -> None:
        """Let a sender work on the model while nothing is being generated; the caller's deadline ends it."""
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
        params = _sampling_params(sampling, self._stop_ids, self._room(prompt_ids, sampling), schema)
        async with self._turn():
            version = self._version
            output = await self._backend.generate(prompt_ids, params)
        return _generation(output, tuple(prompt_ids), version)

    def _room(self, prompt_ids: Sequence[int], sampling: Sampling) -> int:
        """Give how many tokens the reply may have."""
        room = self._config.max_model_len - len(prompt_ids)
        if not prompt_ids or room < 1:
            raise EngineError(
                f"prompt of {len(prompt_ids)} tokens does not fit the context of "
                f"{self._config.max_model_len}; raise engine.max_model_len"
            )
        return min(sampling.max_tokens, room)

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


def _give_in_pieces(params: SamplingParams) -> None:
    from vllm.sampling_params import RequestOutputKind

    params.output_kind = RequestOutputKind.DELTA
    params.stream_interval = _TOKENS_PER_PIECE


def _piece(output: RequestOutput) -> GeneratedPiece:
    reply = output.outputs[0]
    if output.finished and reply.finish_reason not in ("stop", "length"):
        raise EngineError(f"vLLM ended a reply with {reply.finish_reason!r}; look into the engine's log")
    return GeneratedPiece(
        text=reply.text,
        num_tokens=len(reply.token_ids),
        finish_reason="length" if reply.finish_reason == "length" else "stop" if output.finished else None,
    )


def _generation(output: RequestOutput, prompt_ids: tuple[int, ...], version: int) -> Generation:
    reply = output.outputs[0]
    if reply.finish_reason not in ("stop", "length") or reply.logprobs is None:
        raise EngineError(f"vLLM ended a reply with {reply.finish_reason!r}; look into the engine's log")
    token_ids = tuple(reply.token_ids)
    return Generation(
        prompt_ids=prompt_ids,
        token_ids=token_ids,
        logprobs=tuple(
            (step or {})[token].logprob for step, token in zip(reply.logprobs, token_ids, strict=True)
        ),
        text=reply.text,
        finish_reason="stop" if reply.finish_reason == "stop" else "length",
        policy_version=version,
    )
