"""The arithmetic of an adapter, its settings, and its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mica_ray.lora.adapter import Adapter, LoraError, merged_weight
from mica_ray.lora.config import LoraConfig
from mica_ray.lora.folder import BaseRecord, base_of, is_adapter, read_adapter, weights_digest, write_adapter

A, B = "x.q_proj.lora_A.weight", "x.q_proj.lora_B.weight"


def small_adapter(scale: float = 2.0) -> Adapter:
    return Adapter({A: torch.tensor([[1.0, 2.0, 3.0]]), B: torch.tensor([[10.0], [-1.0]])}, scale)


def test_merged_weight_is_the_base_plus_the_scaled_product() -> None:
    # 2 * B A = 2 * [[10, 20, 30], [-1, -2, -3]].
    merged = merged_weight(torch.ones(2, 3), small_adapter().tensors[A], small_adapter().tensors[B], 2.0)
    assert merged.tolist() == [[21, 41, 61], [-1, -3, -5]]


def test_merge_in_bfloat16_rounds_once() -> None:
    # B A = 2^-9 and W = 1: their fp32 sum 1 + 3 * 2^-9 rounds up to 1 + 2^-7; in bf16 every term is lost.
    one, step = torch.ones(1, 1, dtype=torch.bfloat16), torch.full((1, 3), 2.0**-9, dtype=torch.bfloat16)
    merged = merged_weight(one, torch.ones(3, 1, dtype=torch.bfloat16), step, 1.0)
    assert merged.dtype == torch.bfloat16
    assert merged.item() == 1 + 2.0**-7


def test_only_adapted_layers_change() -> None:
    named = [("x.q_proj.weight", torch.zeros(2, 3)), ("x.q_proj.bias", torch.ones(2)), ("y", torch.ones(1))]
    merged = dict(small_adapter().merged(named))
    assert merged["x.q_proj.weight"].tolist() == [[20, 40, 60], [-2, -4, -6]]
    assert merged["y"] is named[2][1]
    assert merged["x.q_proj.bias"] is named[1][1]


@pytest.mark.parametrize("named", [[("y.weight", torch.ones(2, 3))], [("x.q_proj.weight", torch.ones(3, 3))]])
def test_adapter_of_another_model_is_refused(named: list[tuple[str, torch.Tensor]]) -> None:
    with pytest.raises(LoraError, match="belongs to another model"):
        list(small_adapter().merged(named))


def test_half_an_adapter_is_refused() -> None:
    with pytest.raises(LoraError, match="matrices A and B"):
        Adapter({A: torch.ones(1, 3)}, 1.0)


def test_written_adapter_is_read_back(tmp_path: Path) -> None:
    write_adapter(tmp_path, small_adapter(), base="org/model", record=BaseRecord("float32", "d"))
    found = read_adapter(tmp_path)
    assert found.scale == 2.0
    assert found.rank == 1
    assert {name: tensor.tolist() for name, tensor in found.tensors.items()} == {
        A: [[1, 2, 3]],
        B: [[10], [-1]],
    }
    assert is_adapter(tmp_path)
    assert base_of(tmp_path) == "org/model"


@pytest.mark.parametrize("field", ['"use_dora": true', '"use_rslora": true', '"rank_pattern": {"a": 1}'])
def test_other_kinds_of_adapters_are_refused(tmp_path: Path, field: str) -> None:
    write_adapter(tmp_path, small_adapter(), base="org/model")
    path = tmp_path / "adapter_config.json"
    path.write_text(path.read_text().replace('"bias": "none"', field))
    with pytest.raises(LoraError, match="with peft itself"):
        read_adapter(tmp_path)


def test_digest_tells_weights_of_one_size_apart(tmp_path: Path) -> None:
    content = bytearray(100_000)
    (tmp_path / "model.safetensors").write_bytes(content)
    before = weights_digest(tmp_path)
    content[-1] = 1
    (tmp_path / "model.safetensors").write_bytes(content)
    assert weights_digest(tmp_path) != before


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"rank": 0}, "rank must be in"),
        ({"rank": 513}, "rank must be in"),
        ({"alpha": 0.0}, "alpha must be > 0"),
        ({"targets": ()}, "at least one linear layer"),
        ({"targets": ("q_proj", "lm_head")}, "got 'lm_head'"),
        ({"targets": ("model.embed_tokens",)}, "Head and embeddings"),
    ],
)
def test_settings_out_of_range_are_refused(fields: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        LoraConfig(**fields)  # type: ignore[arg-type]


def test_scale_is_alpha_over_rank() -> None:
    assert LoraConfig(rank=512, alpha=256).scale == 0.5
