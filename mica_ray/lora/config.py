"""The settings of low-rank adaptation. The arithmetic is in adapter.py, the model's layers in layers.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mica_ray.checks import above, one_of, within

LARGEST_RANK = 512
"""Largest rank that vLLM loads."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """Which layers get an adapter, and how large it is. Everything else of the model is frozen.

        W' = W + (alpha / rank) B A        LoRA, arXiv 2106.09685, section 4.1

    A [rank, inputs] starts random and B [outputs, rank] at 0, so that training starts from the base model.
    """

    rank: int = 16
    alpha: float = 32.0
    """Numerator of the scale. The effect of the learning rate grows with it."""
    targets: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Names of linear layers, or ends of their dotted names such as "mlp.up_proj". The defaults are all
    linear layers of a block of Qwen, Llama, Mistral and SmolLM."""
    push: Literal["adapter", "merged"] = "adapter"
    """What goes to the engines after a step. adapter: only A and B; an engine adds them to its own weights,
    or vLLM computes with them. merged: all weights, the adapter added by the learner."""
    base: str = ""
    """Name of the base model in saved adapters: a hub id or an absolute folder. A run sets it; empty means
    the policy's folder."""

    def __post_init__(self) -> None:
        """Check every setting."""
        within(1, LARGEST_RANK, rank=self.rank)
        above(0, alpha=self.alpha)
        one_of(("adapter", "merged"), push=self.push)
        if not self.targets:
            raise ValueError(
                "targets must name at least one linear layer, got none. Leave it out, or set it."
            )
        for target in self.targets:
            if target.split(".")[-1] in ("lm_head", "embed_tokens"):
                raise ValueError(
                    f"targets must be linear layers of the blocks, got {target!r}. Head and embeddings "
                    "cannot have an adapter. Remove it."
                )

    @property
    def scale(self) -> float:
        """The factor alpha / rank of the product B A."""
        return self.alpha / self.rank
