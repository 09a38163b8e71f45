"""An adapter on its way to the engines: small buckets, exact sums, and the same log probabilities."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.config.references import ConfigError
from mica_ray.lora.adapter import Adapter
from mica_ray.rollout.adapters.vllm_adapters import buffer_rank
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.rollout.engine_pool import EnginePool
from mica_ray.rollout.local_engine import LocalEngine
from mica_ray.rollout.vllm_backends import engine_arguments
from mica_ray.rollout.vllm_engine import vllm_blueprint
from mica_ray.rollout.vllm_weights import read_bucket, write_bucket
from mica_ray.rollout.weights import WeightBucket, pack_weights, publish, unpack_adapter
from mica_ray.types import Sampling
from tests.small_adapters import random_adapter, summed
from tests.small_policy import reference_logprobs, small_folder, small_model

PROMPTS = [list(range(20, 40)), list(range(30, 35)), [100, 50, 60] * 15]


def bucket_of(adapter: Adapter) -> WeightBucket:
    return pack_weights(adapter.tensors.items(), lora_scale=adapter.scale)


def test_adapter_survives_the_bucket_and_its_file(tmp_path: Path) -> None:
    adapter = random_adapter(1)
    write_bucket(bucket_of(adapter), tmp_path / "weights.npz")
    found = unpack_adapter(read_bucket(tmp_path / "weights.npz"))
    assert found is not None and found.scale == 0.5
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in adapter.tensors.items())
    assert unpack_adapter(pack_weights(small_model(tied=True).named_parameters())) is None


async def test_adapters_replace_each_other_in_the_local_engine(tmp_path: Path) -> None:
    folder, model = small_folder(tmp_path, tied=True), small_model(tied=True)
    engine = LocalEngine(model, ChatTemplate.from_folder(folder))
    for version, seed in enumerate((1, 2)):
        await engine.load_weights(publish(bucket_of(random_adapter(seed)), version))
        expected = summed(seed)
        assert all(torch.equal(value, expected[name]) for name, value in model.named_parameters())
    # Whole weights are the base of the next adapter.
    other = small_model(tied=True, seed=9)
    await engine.load_weights(publish(pack_weights(other.named_parameters()), 2))
    await engine.load_weights(publish(bucket_of(random_adapter(1)), 3))
    expected = dict(random_adapter(1).merged(other.state_dict().items()))
    assert all(torch.equal(value, expected[name]) for name, value in model.named_parameters())


async def test_adapter_of_another_model_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    folder, model = small_folder(tmp_path, tied=True), small_model(tied=True)
    engine = LocalEngine(model, ChatTemplate.from_folder(folder))
    tensors = {
        name.replace("layers.1", "layers.7"): value for name, value in random_adapter(1).tensors.items()
    }
    with pytest.raises(EngineError, match="adapter belongs to another model"):
        await engine.load_weights(publish(bucket_of(Adapter(tensors, 0.5)), 0))
    expected = small_model(tied=True).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.named_parameters())


async def largest_difference(pool: EnginePool, version: int, seed: int) -> float:
    """Push an adapter, sample, return the largest difference to a forward pass of the sum, nats."""
    model = small_model(tied=True)
    model.load_state_dict(summed(seed))
    await pool.load_weights(publish(bucket_of(random_adapter(seed)), version))
    replies = await asyncio.gather(
        *(pool.generate(prompt, Sampling(max_tokens=8, seed=key)) for key, prompt in enumerate(PROMPTS))
    )
    assert {reply.policy_version for reply in replies} == {version}
    return max(
        abs(reported - true)
        for reply in replies
        for reported, true in zip(
            reply.logprobs, reference_logprobs(model, reply.prompt_ids, reply.token_ids), strict=True
        )
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(EngineConfig(max_model_len=256, kv_cache_gib=0.25, lora_rank=4), id="vllm computes"),
        # As for an architecture that vLLM has no adapters for.
        pytest.param(EngineConfig(max_model_len=256, kv_cache_gib=0.25), id="worker adds"),
        pytest.param(
            EngineConfig(max_model_len=256, kv_cache_gib=0.25, lora_rank=4, backend="async"),
            marks=[pytest.mark.long, pytest.mark.timeout(600)],
            id="vllm in processes of its own",
        ),
    ],
)
async def test_vllm_takes_one_adapter_after_the_other(
    ray_cluster: None, tmp_path: Path, config: EngineConfig
) -> None:
    folder = small_folder(tmp_path, tied=True)
    stop_ids = ChatTemplate.from_folder(folder).stop_ids
    pool = await EnginePool.start(vllm_blueprint(folder, stop_ids, config), num_engines=1)
    try:
        for version, seed in enumerate((1, 2)):
            assert await largest_difference(pool, version, seed) < 1e-4
    finally:
        await pool.close()


@pytest.mark.slow
def test_vllm_computes_the_adapters_of_models_that_it_can(tmp_path: Path) -> None:
    from vllm.engine.arg_utils import EngineArgs

    folder = str(small_folder(tmp_path, tied=True))
    config = EngineConfig(max_model_len=256, kv_cache_gib=0.25)
    adapted = engine_arguments(EngineArgs, folder, replace(config, lora_rank=9))
    assert (adapted.enable_lora, adapted.max_lora_rank) == (True, 16)
    assert not engine_arguments(EngineArgs, folder, config).enable_lora


@pytest.mark.parametrize(("rank", "size"), [(1, 8), (8, 8), (9, 16), (64, 64), (512, 512)])
def test_buffer_is_the_next_size_of_vllm(rank: int, size: int) -> None:
    assert buffer_rank(rank) == size


def test_adapter_is_pushed_only_to_engines_that_keep_the_base() -> None:
    asleep = ["engine.gpus_per_engine=1", "engine.sleep_level=2"]
    for settings in (["engine.weight_transfer=gloo"], asleep):
        with pytest.raises(ConfigError, match=r"learner\.lora\.push=merged"):
            override(RunConfig(), [*settings, 'learner.lora={"rank": 4}'])
    override(RunConfig(), [*asleep, 'learner.lora={"rank": 4, "push": "merged"}'])
    override(RunConfig(), [*asleep, "engine.sleep_level=1", 'learner.lora={"rank": 4}'])
    config = override(
        RunConfig(), ["engine.weight_transfer=gloo", 'learner.lora={"rank": 4, "push": "merged"}']
    )
    assert config.engine == replace(RunConfig().engine, weight_transfer="gloo")
