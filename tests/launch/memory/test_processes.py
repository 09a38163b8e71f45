"""Which parts every process holds, by hand, and the largest phase of a learner."""

from __future__ import annotations

import pytest

from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.launch.memory.cache_need import policy_engine, role_engine
from mica_ray.launch.memory.formulas import Sharding
from mica_ray.launch.memory.processes import (
    CUDA_GIB,
    ENGINE_GIB,
    GIB,
    LEARNER_GIB,
    Model,
    ProcessMemory,
    learner_phases,
    micro_batch_tokens,
    run_processes,
    trained_parameters,
)
from tests.launch.memory.shapes import model_of, qwen25_7b

PLAIN = Model(parameters=GIB)
"""A model of unknown shape with 2^30 parameters: 1 GiB for each byte of a parameter."""


def process(config: RunConfig, name: str, policy: Model = PLAIN) -> ProcessMemory:
    (found,) = (one for one in run_processes(config, policy, {}, inline=False) if one.name == name)
    return found


def test_micro_batch_has_at_least_one_row_and_at_most_all_rows() -> None:
    # 16 scenarios x 4 dialogues in 8 mini-batches: 8 rows of at most 1,024 tokens on one rank.
    config = RunConfig()
    assert micro_batch_tokens(config, inline=False) == 8192
    assert micro_batch_tokens(override(config, ["learner.micro_batch_tokens=8191"]), inline=False) == 8191
    assert micro_batch_tokens(override(config, ["learner.micro_batch_tokens=100"]), inline=False) == 1024
    # Three ranks share 8 rows: 3 for the first.
    three = override(config, ["ray_learner.num_workers=3"])
    assert micro_batch_tokens(three, inline=False) == 3 * 1024
    assert micro_batch_tokens(three, inline=True) == 8192


def test_peak_of_a_learner_is_its_largest_phase() -> None:
    sharding = Sharding(kind="deepspeed", ranks=1, zero_stage=1, dtype="bfloat16", is_on_gpu=False)
    phases = learner_phases(
        Model(parameters=1000), sharding, tokens=1, checkpointing=False, has_reference=True, steps=2
    )
    # Weights 2, master 4, reference 2; moments 8, sum of the gradients 4.
    assert sum(phases["backward"].values()) == (2 + 4 + 2 + 8 + 4) * 1000
    assert sum(phases["step"].values()) == (2 + 4 + 2 + 8 + 4) * 1000
    first = learner_phases(
        Model(parameters=1000), sharding, tokens=1, checkpointing=False, has_reference=False, steps=1
    )
    # The only step creates the moments, after the backward pass.
    assert sum(first["backward"].values()) == (2 + 4 + 4) * 1000


def test_peak_of_two_ranks_is_the_sum_over_them() -> None:
    sharding = Sharding(kind="deepspeed", ranks=2, zero_stage=1, dtype="bfloat16", is_on_gpu=False)
    phases = learner_phases(
        Model(parameters=1000), sharding, tokens=1, checkpointing=False, has_reference=False, steps=2
    )
    # Half of master weights and moments; the whole sum in fp32, and its copy.
    assert sum(phases["reduction"].values()) == (2 + 2 + 4 + 4 + 4) * 1000


def test_learner_on_a_cpu_by_hand() -> None:
    config = override(RunConfig(), ["learner.dtype=bfloat16", "learner.loss.kl_coefficient=0"])
    found = process(config, "learner worker")
    # Weights 2, master 4, moments 8, gradients 4 bytes per parameter; 64 rows of 1,024 tokens, 17 bytes each.
    rest = LEARNER_GIB * GIB + 64 * 1024 * 17
    assert found.host_bytes == pytest.approx(18 * GIB + rest)
    # No moments before the first step. A bucket for the engines has 64 MiB, packed from as much.
    assert found.during["start"] == pytest.approx(10 * GIB + rest)
    assert found.during["push"] == pytest.approx((18 + 0.125) * GIB + rest)
    assert found.gpu_bytes == 0


def test_learner_on_gpus_by_hand() -> None:
    config = override(
        RunConfig(),
        ["learner.dtype=bfloat16", "learner.loss.kl_coefficient=0", "ray_learner.gpus_per_worker=1",
         "ray_learner.num_workers=4"],
    )  # fmt: skip
    found = process(config, "learner worker")
    # ZeRO 1: weights 2, master 1, moments 2, sum of the gradients 4, and its copy for the sum over ranks.
    assert found.gpu_bytes == pytest.approx((2 + 1 + 2 + 4 + 4 + CUDA_GIB) * GIB)
    assert found.count == 4
    # Each rank loads the model into host memory. One bucket at a time goes to the engines.
    assert found.host["weights while loading"] == 2 * GIB
    assert "bucket to send" not in found.host


def test_engine_on_a_cpu_by_hand() -> None:
    config = override(RunConfig(), ["engine.dtype=bfloat16", "engine.kv_cache_gib=3"])
    shape = qwen25_7b()
    found = process(config, "policy engine", model_of(shape))
    # Untied, so no packed head. Weights, as many while new ones load, cache, 128 replies x 152,064 x 8 bytes.
    expected = (ENGINE_GIB + 3) * GIB + 2 * 2 * shape.parameters + 8 * 128 * 152_064
    assert found.host_bytes == pytest.approx(expected)
    assert found.during == {"update": pytest.approx(expected - 2 * shape.parameters)}


def test_cache_is_no_larger_than_the_dialogues_need() -> None:
    # 2 scenarios x 3 dialogues, contexts of 1,000 tokens in blocks of 128, 57,344 bytes per token.
    settings = [
        "engine.dtype=bfloat16", "engine.kv_cache_gib=3", "engine.max_model_len=1000",
        "loop.scenarios_per_step=2", "rollout.group_size=3",
        "evaluation.max_scenarios=2", "evaluation.samples=1",
    ]  # fmt: skip
    config = override(RunConfig(), settings)
    assert policy_engine(config, qwen25_7b()).kv_cache_gib == pytest.approx(6 * 1024 * 57_344 / GIB)
    evaluated = override(config, ["evaluation.max_scenarios=7"])
    assert policy_engine(evaluated, qwen25_7b()).kv_cache_gib == pytest.approx(7 * 1024 * 57_344 / GIB)
    # The whole split may be more than an engine samples at once: 128 x 1,024 tokens are 7 GiB.
    whole = override(config, ["evaluation.max_scenarios=null"])
    assert policy_engine(whole, qwen25_7b()).kv_cache_gib == 3
    # Two GPUs hold half of the heads each. The size of an unknown shape stays.
    pair = override(config, ["engine.tensor_parallel=2", "engine.gpus_per_engine=2"])
    assert policy_engine(pair, qwen25_7b()).kv_cache_gib == pytest.approx(3 * 1024 * 57_344 / GIB)
    assert policy_engine(config, None).kv_cache_gib == 3


def test_cache_of_a_role_model_has_a_context_for_every_role_that_it_plays() -> None:
    base = [
        "roles.engine.max_model_len=2048", "loop.scenarios_per_step=2", "rollout.group_size=3",
        "evaluation.max_scenarios=1", "evaluation.samples=1",
    ]  # fmt: skip
    judge = override(RunConfig(), ["roles.judge=vllm:m", *base])
    every = override(judge, ["roles.actor=vllm:m", "roles.director=vllm:m"])
    assert role_engine(judge, "m", qwen25_7b()).kv_cache_gib == pytest.approx(6 * 2048 * 57_344 / GIB)
    assert role_engine(every, "m", qwen25_7b()).kv_cache_gib == pytest.approx(18 * 2048 * 57_344 / GIB)


def test_engine_on_two_gpus_by_hand() -> None:
    config = override(
        RunConfig(),
        ["engine.dtype=bfloat16", "engine.kv_cache_gib=3", "engine.tensor_parallel=2",
         "engine.gpus_per_engine=2"],
    )  # fmt: skip
    found = process(config, "policy engine")
    # Half of the weights per GPU; 2 GiB of activations.
    assert found.gpu_bytes == pytest.approx((CUDA_GIB + 1 + 3 + 2) * GIB)
    assert found.host["weights that arrive"] == 2 * GIB


def test_processes_that_share_a_gpu_are_added() -> None:
    lone, pair, five = (
        ProcessMemory(name="a", count=count, gpus=0.5, gpu={"weights": 10.0}) for count in (1, 2, 5)
    )
    whole = ProcessMemory(name="b", gpus=1.0, gpu={"weights": 10.0})
    assert [process.gpu_bytes for process in (lone, pair, five, whole)] == [10.0, 20.0, 20.0, 10.0]


def test_run_in_one_process_holds_learner_and_engine() -> None:
    config = override(RunConfig(), ["learner.loss.kl_coefficient=0"])
    (found,) = run_processes(config, PLAIN, {}, inline=True)
    assert found.count == 1
    # fp32: the learner's weights and the engine's.
    assert (found.host["weights"], found.host["engine"]) == (4 * GIB, 4 * GIB)
    # Moments 8, gradient 4.
    assert (found.host["moments"], found.host["gradients"]) == (8 * GIB, 4 * GIB)


def test_adapter_needs_gradients_and_moments_of_its_own_size_and_no_reference() -> None:
    # Qwen2.5-7B: h = q = 3584, k = 512, f = 18944, 28 layers. Rank 16 x (inputs + outputs) of all targets.
    trained = 28 * 16 * (2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944))
    settings = ['learner.lora={"rank": 16}', "learner.dtype=bfloat16", "learner.loss.kl_coefficient=0.1"]
    policy = model_of(qwen25_7b())
    assert policy.shape is not None and policy.parameters is not None
    assert trained_parameters(override(RunConfig(), settings), policy) == trained == 40_370_176
    learner = process(override(RunConfig(), settings), "learner worker", policy).host
    assert learner["weights"] == 2 * policy.parameters
    assert learner["reference"] == 0
    assert learner["master weights"] == 4 * trained
    assert learner["moments"] == 8 * trained
    # One push is the adapter in bf16, merged it is the model; the old version and the new one, and the batch.
    batch = 64 * 1024 * 17
    ray = process(override(RunConfig(), settings), "Ray", policy)
    assert ray.host["object store"] == 2 * 2 * trained + batch
    assert ray.host_bytes - ray.during["update"] == 2 * trained
    merged = ['learner.lora={"rank": 16, "push": "merged"}', *settings[1:]]
    store = process(override(RunConfig(), merged), "Ray", policy).host["object store"]
    assert store == 2 * 2 * policy.parameters + batch


def test_adapter_of_attention_only_is_smaller() -> None:
    shape = model_of(qwen25_7b()).shape
    assert shape is not None
    assert shape.adapter_parameters(2, ("q_proj", "self_attn.v_proj")) == 28 * 2 * (7168 + 4096)
