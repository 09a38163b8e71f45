"""Protocols below an update: an engine that makes optimizer steps, and ranks to sum over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch


class Stepper(Protocol):
    """The engine of an update. Consumes token ids, produces log probabilities and optimizer steps."""

    @property
    def device(self) -> torch.device:
        """The device of the inputs."""
        ...

    def logprobs(self, token_ids: torch.Tensor, mask: torch.Tensor, temperature: float) -> torch.Tensor:
        """Run the policy on right-padded rows.

        Args:
            token_ids: [R, L] int64.
            mask: [R, L] bool, the tokens whose log probability is needed; a token in column 0 has none.
            temperature: sampling temperature of the log probabilities.

        Returns:
            [R, L] float32, nats; 0 outside the mask.
        """
        ...

    def reference_logprobs(
        self, token_ids: torch.Tensor, mask: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Run the frozen initial policy; called only when the loss has a KL term."""
        ...

    def backward(self, loss: torch.Tensor, *, is_last: bool) -> None:
        """Add this rank's gradient of `loss`.

        The gradient of an optimizer step is the sum over calls and ranks.

        Args:
            loss: scalar, already divided by the counts of the whole optimizer step.
            is_last: whether this is the last call before `step`.
        """
        ...

    def step(self, learning_rate: float) -> float:
        """Clip, update the weights, clear the gradient; return the norm before clipping."""
        ...


class Ranks(Protocol):
    """The processes that share one update."""

    @property
    def rank(self) -> int:
        """Index of this process, from 0."""
        ...

    @property
    def world_size(self) -> int:
        """Number of processes."""
        ...

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum a float64 array over the ranks; every rank gets the sum."""
        ...

    def max(self, values: np.ndarray) -> np.ndarray:
        """Return the element-wise maximum over the ranks."""
        ...


@dataclass(frozen=True, slots=True)
class OneRank:
    """`Ranks` of a single process."""

    rank: int = 0
    world_size: int = 1

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Return the values."""
        return values

    def max(self, values: np.ndarray) -> np.ndarray:
        """Return the values."""
        return values
