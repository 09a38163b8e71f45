"""What an update needs below it: an engine to step and the ranks to sum over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch


class Stepper(Protocol):
    """What an update needs of the engine below it.

    Consumes token ids, produces logits and optimiser steps.
    """

    @property
    def device(self) -> torch.device:
        """Where the inputs of the passes must lie."""
        ...

    def logits(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Run the policy on right-padded rows [R, L]; give [R, L, V]."""
        ...

    def reference_logits(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Run the frozen initial policy; only asked for when the loss has a KL term."""
        ...

    def backward(self, loss: torch.Tensor, *, is_last: bool) -> None:
        """Add this rank's gradient of `loss`.

        The gradient of an optimiser step is the sum over calls and ranks.

        Args:
            loss: scalar, already divided by the counts of the whole optimiser step.
            is_last: no further call before `step`.
        """
        ...

    def step(self, learning_rate: float) -> float:
        """Clip, move the weights, forget the gradient. Gives the global gradient norm before clipping."""
        ...


class Ranks(Protocol):
    """The processes that share one update."""

    @property
    def rank(self) -> int:
        """This process, from 0."""
        ...

    @property
    def world_size(self) -> int:
        """How many there are."""
        ...

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Add an array of float64 over the ranks; every rank gets the result."""
        ...

    def max(self, values: np.ndarray) -> np.ndarray:
        """Take the largest over the ranks, element by element."""
        ...


@dataclass(frozen=True, slots=True)
class OneRank:
    """`Ranks` of a single process."""

    rank: int = 0
    world_size: int = 1

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Give the values back."""
        return values

    def max(self, values: np.ndarray) -> np.ndarray:
        """Give the values back."""
        return values
