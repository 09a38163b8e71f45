"""The formulas of memory by hand, and against what torch saves for models of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from mica_ray.launch.memory.formulas import (
    Sharding,
    activation_bytes,
    batch_bytes,
    cache_bytes,
    checkpoint_bytes,
    gradient_bytes,
    head_bytes,
    layer_bytes,
    master_bytes,
    moment_bytes,
    reduce_bytes,
    step_bytes,
    sum_bytes,
    weight_bytes,
)
from mica_ray.launch.memory.model_shape import ModelShape, read_shape
from tests.launch.memory.shapes import qwen3_8b, qwen3_14b, qwen3_32b, qwen25_7b

SMALL: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 6,
    "num_key_value_heads": 2,
}  # fmt: skip
BF16, FP32 = "bfloat16", "float32"
ONE = Sharding(kind="local", dtype=BF16, is_on_gpu=False)
ROWS, LENGTH = 2, 32


def sharded(stage: int, *, ranks: int = 4, dtype: str = BF16, gpu: bool = True) -> Sharding:
    return Sharding(kind="deepspeed", ranks=ranks, zero_stage=stage, dtype=dtype, is_on_gpu=gpu)


def saved_bytes(config: LlamaConfig | Qwen2Config | Qwen3Config, dtype: str) -> int:
    """Return the bytes that torch keeps for the backward pass of a model's body, weights excluded."""
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) % config.vocab_size
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.base_model(input_ids=ids, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)


@pytest.mark.parametrize("dtype", [BF16, FP32])
@pytest.mark.parametrize(
    ("kind", "extra"), [(LlamaConfig, {}), (Qwen2Config, {}), (Qwen3Config, {"head_dim": 16})]
)
def test_bytes_of_a_layer_are_those_that_torch_saves(
    kind: type[LlamaConfig], extra: dict[str, Any], dtype: str
) -> None:
    two, three = (kind(**SMALL, **extra, num_hidden_layers=count) for count in (2, 3))
    shape = read_shape(two.to_dict())
    assert shape is not None
    found = saved_bytes(three, dtype) - saved_bytes(two, dtype)
    assert found == ROWS * LENGTH * layer_bytes(shape, dtype)


def test_bytes_of_a_layer_by_hand() -> None:
    # Qwen2.5-7B: widths 3584, 28 x 128 = 3584, 4 x 128 = 512, 18944.
    # Norms 2 (8 x 3584 + 4), attention 4 (3584 + 512) + 4 x 28, MLP 8 x 18944.
    assert layer_bytes(qwen25_7b(), BF16) == 57_352 + 16_496 + 151_552
    # Qwen3-8B: 4096, 4096, 1024, 12288; norms of heads 6 (4096 + 1024) + 4 (32 + 8).
    assert layer_bytes(qwen3_8b(), BF16) == 65_544 + 20_608 + 98_304 + 30_880


def test_activations_by_hand() -> None:
    # Qwen2.5-7B, one token: 28 layers of 225,400; last norm 16 x 3584 and MLP gradients 6 x 18944: 171,008.
    shape = qwen25_7b()
    assert activation_bytes(shape, 1, BF16, checkpointing=False) == 28 * 225_400 + 171_008
    # With checkpointing the inputs of 28 layers, 2 x 3584 each, and one layer.
    assert activation_bytes(shape, 1, BF16, checkpointing=True) == 28 * 7_168 + 225_400 + 171_008
    # Twice the tokens need twice the memory: no scores of [L, L].
    assert activation_bytes(shape, 2, BF16, checkpointing=True) == 2 * (28 * 7_168 + 225_400 + 171_008)


@pytest.mark.parametrize(
    ("shape", "gigabytes"),
    # 25,000 tokens with checkpointing, in 10^9 bytes. Per token, inputs of layers + one layer + rest:
    # 7B 28 x 7,168 + 225,400 + 171,008; 8B 36 x 8,192 + 215,336 + 139,264;
    # 14B 40 x 10,240 + (81,928 + 24,736 + 139,264 + 37,056) + 186,368;
    # 32B 64 x 10,240 + (81,928 + 37,120 + 204,800 + 55,584) + 235,520.
    [(qwen25_7b(), 14.9278), (qwen3_8b(), 16.2378), (qwen3_14b(), 21.9738), (qwen3_32b(), 31.7578)],
    ids=["7B", "8B", "14B", "32B"],
)
def test_activations_of_the_recipes_models(shape: ModelShape, gigabytes: float) -> None:
    found = activation_bytes(shape, 25_000, BF16, checkpointing=True) / 1e9
    assert found == pytest.approx(gigabytes, rel=1e-5)


def test_head_in_chunks_by_hand() -> None:
    # 10,000 tokens of Qwen2.5-7B: 6 x 3584 + 4 bytes each; gradient 2 x 152,064 x 3584; chunk 10 x 2^21,
    # on a GPU 2^26.
    rest = 215_080_000 + 1_089_994_752
    assert head_bytes(qwen25_7b(), 10_000, BF16, is_on_gpu=False) == rest + 20_971_520
    assert head_bytes(qwen25_7b(), 10_000, BF16, is_on_gpu=True) == rest + 671_088_640


def test_numbers_per_parameter_of_every_stage() -> None:
    # Weights, master weights, moments of 1,000 parameters on 4 ranks in bf16.
    kept = {
        stage: [function(1000, sharded(stage)) for function in (weight_bytes, master_bytes, moment_bytes)]
        for stage in (0, 1, 2)
    }
    assert kept == {0: [2000, 4000, 8000], 1: [2000, 1000, 2000], 2: [2000, 1000, 2000]}
    # ZeRO 3 keeps a quarter, and gathers at most 10^9 weights at a time.
    assert weight_bytes(1000, sharded(3)) == 500 + 2000
    assert weight_bytes(8 * 10**9, sharded(3)) == 4e9 + 2e9


def test_fp32_needs_master_weights_only_where_deepspeed_clones_its_partition() -> None:
    assert master_bytes(1000, sharded(0, dtype=FP32)) == 0
    assert master_bytes(1000, sharded(1, dtype=FP32)) == 1000
    assert master_bytes(1000, Sharding(kind="local", dtype=FP32)) == 0
    assert master_bytes(1000, ONE) == 4000


def test_gradients_of_every_stage() -> None:
    count = 2 * 10**9
    # The sum in fp32. Of bf16 gradients only one parameter's is in memory: it is added at once.
    assert gradient_bytes(count, None, sharded(0)) == 8e9
    assert gradient_bytes(count, None, ONE) == 8e9
    assert gradient_bytes(count, None, sharded(1, dtype=FP32)) == 8e9
    # At ZeRO 1 the sum of bf16 gradients is there all the time, and whole on every rank.
    assert (sum_bytes(count, sharded(1)), gradient_bytes(count, None, sharded(1))) == (8e9, 0)
    assert [sum_bytes(count, one) for one in (sharded(0), sharded(2), ONE, sharded(1, dtype=FP32))] == [0] * 4
    # A quarter of the sum in fp32, and a bucket of 5 x 10^8 numbers of 2 bytes.
    assert [gradient_bytes(count, None, sharded(stage)) for stage in (2, 3)] == [3e9, 3e9]
    # A CPU touches only the part of the bucket that is used.
    assert gradient_bytes(1000, None, sharded(3, gpu=False)) == 1000 + 2000


def test_gradient_of_the_embedding_arrives_in_one_piece() -> None:
    # 152,064 x 3584 numbers in bf16, and at ZeRO 1 also in fp32.
    shape, count = qwen25_7b(), qwen25_7b().parameters
    assert gradient_bytes(count, shape, sharded(1)) == 6 * 544_997_376
    assert gradient_bytes(count, shape, sharded(0)) == 4 * count + 2 * 544_997_376
    assert gradient_bytes(count, shape, sharded(1, dtype=FP32)) == 4 * count
    assert gradient_bytes(count, shape, sharded(3)) == gradient_bytes(count, None, sharded(3))
    # No tensor of an adapter is larger than the adapter.
    assert gradient_bytes(1000, shape, ONE) == 4000 + 2000


def test_sum_over_ranks_copies_a_whole_gradient_at_zero_1() -> None:
    assert reduce_bytes(1000, sharded(1)) == 4000
    alone = Sharding(kind="deepspeed", ranks=1, zero_stage=1, dtype=BF16)
    assert [reduce_bytes(1000, one) for one in (alone, sharded(2), sharded(1, dtype=FP32), ONE)] == [0] * 4


def test_optimizer_step_by_hand() -> None:
    # The fused AdamW needs nothing but the gradient, of which DeepSpeed makes a copy in one tensor.
    assert [step_bytes(1000, sharded(stage)) for stage in (0, 1, 2, 3)] == [4000, 0, 2000, 2000]
    assert step_bytes(1000, sharded(1, dtype=FP32)) == 2000
    assert step_bytes(1000, ONE) == 4000


def test_cache_batch_and_checkpoint_by_hand() -> None:
    # Keys and values of 28 layers, 512 numbers of 2 bytes each: 57,344 bytes per token.
    assert cache_bytes(qwen25_7b(), 1, BF16) == 57_344
    # Two ids and two numbers of 4 bytes, one mask.
    assert batch_bytes(3, 100) == 300 * 17
    assert checkpoint_bytes(1000, BF16, kind="deepspeed") == 14_000
    assert checkpoint_bytes(1000, FP32, kind="deepspeed") == 16_000
    assert checkpoint_bytes(1000, FP32, kind="local") == 12_000
    assert checkpoint_bytes(1000, BF16, kind="local") == 14_000
    assert checkpoint_bytes(1000, FP32, kind="local") == 12_000
