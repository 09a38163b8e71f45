"""The weights below an adapter, kept by an engine that computes with the sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mica_ray.error_lines import raised_as
from mica_ray.lora.adapter import Adapter
from mica_ray.rollout.engine import EngineError

if TYPE_CHECKING:
    import torch


class BaseWeights:
    """Copies of the weights of adapted layers, made before the first adapter is added."""

    def __init__(self) -> None:
        self._kept: dict[str, torch.Tensor] = {}

    def clear(self) -> None:
        """Forget the copies: the model has new weights."""
        self._kept.clear()

    def add(self, adapter: Adapter, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        """Write the sum of the base weights and an adapter into the model, in place of an earlier sum.

        Raises:
            EngineError: the adapter belongs to another model; nothing was changed.
        """
        import torch

        names = [f"{layer}.weight" for layer in adapter.layers]
        for name in names:
            if name in parameters and name not in self._kept:
                self._kept[name] = parameters[name].detach().clone()
        base = [(name, self._kept[name]) for name in names if name in self._kept]
        with raised_as(EngineError, "The engine cannot add the adapter", "Use the policy that was trained."):
            merged = dict(adapter.merged(base))
        with torch.no_grad():
            for name, value in merged.items():
                parameters[name].copy_(value)
