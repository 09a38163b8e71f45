"""Shapes of models: what a config says, and the number of parameters against real models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from mica_ray.launch.memory.model_shape import ModelShape, read_shape
from tests.launch.memory.shapes import qwen3_8b, qwen3_14b, qwen3_32b, qwen25_7b

SMALL: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2,
}  # fmt: skip


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SMALL),
        LlamaConfig(**SMALL, attention_bias=True),
        Qwen2Config(**SMALL),
        Qwen3Config(**SMALL, head_dim=16),
        Qwen3Config(**SMALL, head_dim=16, attention_bias=True),
    ],
    ids=["llama", "llama with biases", "qwen2", "qwen3", "qwen3 with biases"],
)
def test_parameters_are_those_of_the_model_of_transformers(config: LlamaConfig, is_tied: bool) -> None:
    config.tie_word_embeddings = is_tied
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = read_shape(config.to_dict())
    assert shape is not None
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_parameters_of_the_recipes_models_are_the_published_ones() -> None:
    # Sums of the tensors in the published model files.
    assert qwen25_7b().parameters == 7_615_616_512
    assert qwen3_8b().parameters == 8_190_735_360
    assert qwen3_14b().parameters == 14_768_307_200
    assert qwen3_32b().parameters == 32_762_123_264


def test_keys_that_a_config_lacks_have_the_defaults_of_transformers() -> None:
    shape = read_shape(
        {
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
            "num_attention_heads": 4, "vocab_size": 10,
        }
    )  # fmt: skip
    assert shape == ModelShape(
        layers=1, hidden=64, intermediate=96, heads=4, kv_heads=4, head_size=16, vocabulary=10, is_tied=False
    )  # fmt: skip


def test_inner_config_of_a_multimodal_model_is_read() -> None:
    inner = Qwen3Config(**SMALL, head_dim=16).to_dict()
    assert read_shape({"text_config": inner}) == read_shape(inner)


def test_mixtures_of_experts_and_other_models_have_no_shape() -> None:
    config = Qwen3Config(**SMALL).to_dict()
    assert read_shape({**config, "num_experts": 8}) is None
    assert read_shape({key: value for key, value in config.items() if key != "intermediate_size"}) is None
    assert read_shape({**config, "hidden_size": "wide"}) is None
