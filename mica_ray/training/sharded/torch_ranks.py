"""`Ranks` of the open torch process group, and what its members tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import numpy as np

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TorchRanks:
    """`Ranks` of the default torch process group. Every call is collective."""

    rank: int
    world_size: int
    device: torch.device
    """Device that the group's backend can reduce on: CUDA for nccl, CPU for gloo."""

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum over the ranks in float64."""
        return self._reduce(values, "sum")

    def max(self, values: np.ndarray) -> np.ndarray:
        """Return the element-wise maximum over the ranks."""
        return self._reduce(values, "max")

    def of_first(self, value: T) -> T:
        """Return the value of rank 0 on every rank. It is pickled."""
        import torch.distributed as dist

        values = [value]
        dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def first_error(self, line: str) -> str:
        """Return the first error line of all ranks, by rank; empty if every rank passed an empty one."""
        import torch.distributed as dist

        lines: list[str | None] = [None] * self.world_size
        dist.all_gather_object(lines, line)
        return next((found for found in lines if found), "")

    def _reduce(self, values: np.ndarray, operation: Literal["sum", "max"]) -> np.ndarray:
        import torch
        import torch.distributed as dist

        tensor = torch.as_tensor(values, dtype=torch.float64).to(self.device, copy=True)
        dist.all_reduce(tensor, dist.ReduceOp.SUM if operation == "sum" else dist.ReduceOp.MAX)
        return cast(np.ndarray, tensor.cpu().numpy())
