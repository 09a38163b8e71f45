"""An adapter as tensors by name, and its sum with the weights of a base model.

layers.py reads one from a model in training, folder.py from a model folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_A, _B = ".lora_A.weight", ".lora_B.weight"


class LoraError(ValueError):
    """An adapter cannot be added, read or merged. The message names it and the remedy."""


def merged_weight(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the weight of a layer with its adapter, computed in fp32 and then rounded once.

        W' = W + scale * B A

    Args:
        weight: [outputs, inputs].
        a: [rank, inputs].
        b: [outputs, rank].
        scale: alpha / rank.

    Returns:
        [outputs, inputs] in the type of `weight`.
    """
    return weight.float().addmm(b.float(), a.float(), alpha=scale).to(weight.dtype)


@dataclass(frozen=True, slots=True)
class Adapter:
    """The trained part of a model.

    Attributes:
        tensors: by name, two for each adapted layer L: L.lora_A.weight and L.lora_B.weight.
        scale: alpha / rank.
    """

    tensors: Mapping[str, torch.Tensor]
    scale: float

    def __post_init__(self) -> None:
        """Check that every layer has both matrices, of one rank."""
        for name in self.tensors:
            if not name.endswith((_A, _B)):
                raise LoraError(
                    f"The adapter has a tensor {name}, which is no matrix of LoRA. Use plain LoRA."
                )
        ranks = {self.rank_of(layer) for layer in self.layers}
        if len(ranks) != 1:
            raise LoraError(
                f"The adapter must have layers of one rank, got ranks {sorted(ranks)}. Retrain it."
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """The dotted names of the adapted layers, sorted."""
        return tuple(sorted({name.removesuffix(_A).removesuffix(_B) for name in self.tensors}))

    @property
    def rank(self) -> int:
        """The rank of every layer."""
        return self.rank_of(self.layers[0])

    def rank_of(self, layer: str) -> int:
        """Return the rank of one layer.

        Raises:
            LoraError: one of its two matrices is missing, or their ranks differ.
        """
        a, b = self.tensors.get(layer + _A), self.tensors.get(layer + _B)
        if a is None or b is None or a.shape[0] != b.shape[1]:
            raise LoraError(f"The adapter of {layer} needs matrices A and B of one rank. Save it again.")
        return int(a.shape[0])

    def merged(self, named: Iterable[tuple[str, torch.Tensor]]) -> Iterable[tuple[str, torch.Tensor]]:
        """Yield the parameters of the base model, those of adapted layers with their adapter.

        Args:
            named: parameters of the base model by checkpoint name, in any order.

        Raises:
            LoraError: after the last one, if the base model lacks an adapted layer; or a shape differs.
        """
        left = set(self.layers)
        for name, weight in named:
            layer = name.removesuffix(".weight")
            if name.endswith(".weight") and layer in left:
                left.remove(layer)
                weight = self._merged(layer, weight)
            yield name, weight
        if left:
            raise LoraError(
                f"The adapter belongs to another model: the base has no {min(left)} ({len(left)} such "
                "layers). Use the base model that it was trained from."
            )

    def _merged(self, layer: str, weight: torch.Tensor) -> torch.Tensor:
        a, b = (self.tensors[layer + part].to(weight.device) for part in (_A, _B))
        if (b.shape[0], a.shape[1]) != tuple(weight.shape):
            raise LoraError(
                f"The adapter belongs to another model: {layer} has shape {tuple(weight.shape)}, the adapter "
                f"needs {(b.shape[0], a.shape[1])}. Use the base model that it was trained from."
            )
        return merged_weight(weight, a, b, self.scale)
