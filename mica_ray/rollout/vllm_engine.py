"""vLLM as a policy engine, for life inside one Ray actor. A plain class; `engine_pool.py` starts it.

On CPUs the engine steps in a thread of the actor; on GPUs it is vLLM's AsyncLLM with processes of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.chat.model import JsonSchema
from mica_ray.rollout.engine import EngineError, GeneratedPiece
from mica_ray.rollout.engine_blueprint import EngineBlueprint
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.rollout.reply_pace import ReplyPace
from mica_ray.rollout.vllm_backends import AsyncBackend, InProcessBackend, VllmBackend
from mica_ray.rollout.weights import Incoming, TransferStep, resolve
from mica_ray.types import Generation, PolicyWeights, Sampling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams


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
        self._backend: VllmBackend = (InProcessBackend if config.is_in_process else AsyncBackend)(
            policy, config
        )
        self._pace = ReplyPace()
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
        self, prompt_ids: Sequence[int], sampling: Sampling, *, piece_seconds: float | None
    ) -> AsyncGenerator[GeneratedPiece, None]:
        """Sample one reply and give its text as it grows; closing the generator ends the sampling.

        Args:
            prompt_ids: the prompt.
            sampling: how to sample.
            piece_seconds: about as long grows each piece but the first, which comes at once; None gives the
                whole reply as the only piece.

        Raises:
            EngineError: the prompt does not fit the context.
        """
        params = _sampling_params(sampling, self._stop_ids, self._room(prompt_ids, sampling), None)
        params.logprobs = None  # Text alone is asked for.
        if piece_seconds is not None:
            _give_in_pieces(params, self._pace.tokens_in(piece_seconds))
        clock, began, num_tokens = asyncio.get_running_loop().time, None, 0
        async with self._turn(), aclosing(self._backend.stream(prompt_ids, params)) as outputs:
            async for output in outputs:
                piece = _piece(output)
                if began is None:
                    began = clock()
                else:
                    num_tokens += piece.num_tokens
                if piece.finish_reason is not None:
                    self._pace.add(num_tokens, clock() - began)
                yield piece

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
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0" if config.is_in_process or not config.gpus_per_engine else "1",
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


def _give_in_pieces(params: SamplingParams, tokens_per_piece: int) -> None:
    from vllm.sampling_params import RequestOutputKind

    params.output_kind = RequestOutputKind.DELTA
    params.stream_interval = tokens_per_piece


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
