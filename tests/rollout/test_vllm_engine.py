"""vLLM beyond the contract: its own processes, schemas, crashes under Ray, GPUs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError, GeneratedChunk
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.rollout.engine_pool import EnginePool
from mica_ray.rollout.vllm_backends import clear_cache
from mica_ray.rollout.vllm_engine import vllm_blueprint
from mica_ray.rollout.vllm_weights import read_bucket, write_bucket
from mica_ray.rollout.weights import pack_weights, publish
from mica_ray.types import Sampling
from tests.small_policy import reference_logprobs, small_folder, small_model

CONFIG = EngineConfig(max_model_len=256, kv_cache_gib=0.25)
PROMPTS = [list(range(20, 40)), list(range(30, 35)), [100, 50, 60] * 15]


async def start(folder: Path, config: EngineConfig, num_engines: int = 1) -> EnginePool:
    stop_ids = ChatTemplate.from_folder(folder).stop_ids
    return await EnginePool.start(vllm_blueprint(folder, stop_ids, config), num_engines=num_engines)


async def push(pool: EnginePool, version: int, seed: int, *, tied: bool = True) -> float:
    """Load weights, sample, return the largest logprob difference to a forward pass, nats."""
    model = small_model(tied=tied, seed=seed)
    await pool.load_weights(publish(pack_weights(model.named_parameters()), version))
    replies = await asyncio.gather(
        *(
            pool.route(key).generate(prompt, Sampling(max_tokens=12, seed=key))
            for key, prompt in enumerate(PROMPTS * 2)
        )
    )
    assert {reply.policy_version for reply in replies} == {version}
    return max(
        abs(reported - true)
        for reply in replies
        for reported, true in zip(
            reply.logprobs, reference_logprobs(model, reply.prompt_ids, reply.token_ids), strict=True
        )
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EnginePool]:
    pool = await start(small_folder(tmp_path_factory.mktemp("policy"), tied=True), CONFIG)
    await push(pool, 0, seed=1)
    yield pool
    await pool.close()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_more_seeded_prompts_than_fit_one_engine_step_are_all_answered(pool: EnginePool) -> None:
    # 60 prompts of 200 tokens that share no prefix: 12,000 tokens, more than vLLM takes in one step.
    prompts = [[20 + (key * 31 + place * 7) % 150 for place in range(200)] for key in range(60)]
    replies = await asyncio.gather(
        *(pool.generate(prompt, Sampling(max_tokens=4, seed=key)) for key, prompt in enumerate(prompts))
    )
    assert [list(reply.prompt_ids) for reply in replies] == prompts
    assert all(1 <= len(reply.token_ids) <= 4 for reply in replies)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_a_streamed_reply_is_the_whole_one_in_pieces(pool: EnginePool) -> None:
    sampling = Sampling(max_tokens=12, seed=3)

    async def pieces(chunk_seconds: float | None) -> list[GeneratedChunk]:
        engine: Any = pool.actors[0]  # Ray's types do not cover generators of actors.
        stream = engine.stream.remote(PROMPTS[0], sampling, chunk_seconds=chunk_seconds)
        return [await piece async for piece in stream]

    whole = await pool.generate(PROMPTS[0], sampling)
    # The second is cut by the pace of the first, but its first chunk is still sent at once.
    cut = await pieces(0.1), await pieces(0.0), await pieces(1e6), await pieces(None)
    assert len(whole.token_ids) == 12
    assert [len(found) for found in cut] == [4, 12, 2, 1]
    for found in cut:
        assert [piece.finish_reason for piece in found] == [None] * (len(found) - 1) + [whole.finish_reason]
        assert "".join(piece.text for piece in found) == whole.text
        assert sum(piece.num_tokens for piece in found) == len(whole.token_ids)


@pytest.mark.ray
@pytest.mark.slow
async def test_killed_vllm_comes_back_with_the_current_weights(ray_cluster: None, tmp_path: Path) -> None:
    import ray

    pool = await start(small_folder(tmp_path, tied=True), CONFIG)
    try:
        assert await push(pool, 0, seed=1) < 1e-4
        model = small_model(tied=True, seed=1)
        before = await pool.generate(PROMPTS[0], Sampling(max_tokens=12, seed=3))
        ray.kill(pool.actors[0])
        after = await pool.generate(PROMPTS[0], Sampling(max_tokens=12, seed=3))
        assert (after.token_ids, after.policy_version, pool.num_replacements) == (before.token_ids, 0, 1)
        true = reference_logprobs(model, after.prompt_ids, after.token_ids)
        assert after.logprobs == pytest.approx(true, abs=1e-4)

        schema = {
            "type": "object",
            "properties": {"level": {"enum": [0, 1, 2]}},
            "required": ["level"],
            "additionalProperties": False,
        }
        guided = await pool.generate_json(PROMPTS[0], Sampling(max_tokens=200, seed=0), schema)
        assert json.loads(guided.text)["level"] in (0, 1, 2)
    finally:
        await pool.close()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_vllm_with_processes_of_its_own_takes_weights(ray_cluster: None, tmp_path: Path) -> None:
    # The GPU path on CPUs: weights go through a file in memory to vLLM's worker process.
    pool = await start(small_folder(tmp_path, tied=True), replace(CONFIG, backend="async"))
    try:
        assert await push(pool, 0, seed=1) < 1e-4
        assert await push(pool, 1, seed=2) < 1e-4
    finally:
        await pool.close()


@pytest.mark.gpu
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
async def test_vllm_on_a_gpu_takes_weights(ray_cluster: None, tmp_path: Path, tied: bool) -> None:
    # GPU kernels sum in other orders, and fp32 matrix products may use TF32: 1e-2 nats still detects stale
    # weights.
    config = replace(CONFIG, gpus_per_engine=1.0, enforce_eager=True)
    pool = await start(small_folder(tmp_path, tied=tied), config)
    try:
        assert await push(pool, 0, seed=1, tied=tied) < 1e-2
        assert await push(pool, 1, seed=2, tied=tied) < 1e-2
    finally:
        await pool.close()


def test_bucket_survives_the_way_through_a_file(tmp_path: Path) -> None:
    bucket = pack_weights(small_model(tied=True).bfloat16().named_parameters())
    write_bucket(bucket, tmp_path / "weights.npz")
    received = read_bucket(tmp_path / "weights.npz")
    assert (received.names, received.shapes, received.dtypes) == (bucket.names, bucket.shapes, bucket.dtypes)
    np.testing.assert_array_equal(received.data, bucket.data)


async def test_cache_that_vllm_keeps_is_cleared_again_and_then_an_error() -> None:
    answers = [False, False, True, False]

    async def reset() -> bool:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    await clear_cache(reset, pause_seconds=0)
    assert answers == [False]
    with pytest.raises(EngineError, match="does not clear its prefix cache"):
        await clear_cache(reset, pause_seconds=0)


def test_backend_follows_the_device() -> None:
    assert EngineConfig().is_in_process
    assert EngineConfig().is_eager
    on_gpu = EngineConfig(gpus_per_engine=0.5)
    assert not on_gpu.is_in_process
    assert not on_gpu.is_eager


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float16"}, "dtype must be 'float32' or 'bfloat16', got 'float16'"),
        ({"backend": "ray"}, "backend must be 'auto', 'in_process' or 'async', got 'ray'"),
        ({"max_model_len": 0}, "max_model_len must be >= 1, got 0"),
        ({"kv_cache_gib": 0}, "kv_cache_gib must be > 0, got 0"),
        (
            {"tensor_parallel": 2, "gpus_per_engine": 1.0},
            "gpus_per_engine must equal tensor_parallel = 2, got 1.0",
        ),
    ],
)
def test_impossible_engine_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EngineConfig(**settings)
