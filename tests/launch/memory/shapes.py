"""The shapes of the recipes' models, from the config classes of transformers."""

from __future__ import annotations

from transformers import Qwen2Config, Qwen3Config

from mica_ray.launch.memory.model_shape import ModelShape, read_shape
from mica_ray.launch.memory.processes import Model


def qwen25(vocabulary: int, hidden: int, intermediate: int, heads: tuple[int, int]) -> ModelShape:
    return shape_of(
        Qwen2Config(
            vocab_size=vocabulary, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=28,
            num_attention_heads=heads[0], num_key_value_heads=heads[1], tie_word_embeddings=hidden < 2048,
        )
    )  # fmt: skip


def qwen25_7b() -> ModelShape:
    return qwen25(152064, 3584, 18944, (28, 4))


def qwen25_1_5b() -> ModelShape:
    return qwen25(151936, 1536, 8960, (12, 2))


def qwen3(hidden: int, intermediate: int, layers: int, heads: int) -> ModelShape:
    return shape_of(
        Qwen3Config(
            vocab_size=151936, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=8, head_dim=128, tie_word_embeddings=False,
        )
    )  # fmt: skip


def qwen3_8b() -> ModelShape:
    return qwen3(4096, 12288, 36, 32)


def qwen3_14b() -> ModelShape:
    return qwen3(5120, 17408, 40, 40)


def qwen3_32b() -> ModelShape:
    return qwen3(5120, 25600, 64, 64)


def shape_of(config: Qwen2Config | Qwen3Config) -> ModelShape:
    shape = read_shape(config.to_dict())
    assert shape is not None
    return shape


def model_of(shape: ModelShape) -> Model:
    return Model(parameters=shape.parameters, shape=shape)
