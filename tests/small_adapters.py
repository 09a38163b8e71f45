"""Adapters of the small policy (small_policy.py): in memory, and as folders."""

from __future__ import annotations

from pathlib import Path

import torch

from mica_ray.lora.adapter import Adapter
from mica_ray.lora.folder import BaseRecord, weights_digest, write_adapter
from tests.small_policy import small_model

LAYERS = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")


def random_adapter(seed: int, rank: int = 4) -> Adapter:
    """An adapter that is large enough to change every log probability."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {LAYERS[0]: (64, 64), LAYERS[1]: (64, 128)}
    tensors: dict[str, torch.Tensor] = {}
    for layer, (outputs, inputs) in shapes.items():
        tensors[f"{layer}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator) * 0.2
        tensors[f"{layer}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator) * 0.2
    return Adapter(tensors, scale=0.5)


def summed(seed: int) -> dict[str, torch.Tensor]:
    """The weights of the small model with an adapter."""
    return dict(random_adapter(seed).merged(small_model(tied=True).state_dict().items()))


def written(folder: Path, seed: int, base: Path) -> str:
    record = BaseRecord("float32", weights_digest(base))
    write_adapter(folder, random_adapter(seed), base=str(base), record=record)
    return str(folder)
