"""The engine of a rank that shards nothing (ZeRO stage 0): the in-process one, with summed gradients.

Sharded ranks are in deepspeed.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.training.local_learner import LocalStepper
from mica_ray.training.sharded.pieces import Piece, load_weights
from mica_ray.training.sharded.shards import ShardReader
from mica_ray.training.update import LearnerConfig

if TYPE_CHECKING:
    import torch


class ReplicatedStepper(LocalStepper):
    """`GroupStepper` with a whole copy of the policy on every rank.

    Gradients are summed over micro-batches and ranks in fp32.
    """

    def __init__(self, policy: Path, config: LearnerConfig, *, rank: int, world_size: int) -> None:
        """Load the policy on this rank.

        Raises:
            LearnerError: the folder contains no causal language model.
        """
        super().__init__(policy, config, device=_rank_device())
        self._rank, self._world_size = rank, world_size

    def step(self, learning_rate: float) -> float:
        """Sum the gradients over the ranks, then step as the in-process learner does. Collective."""
        import torch
        import torch.distributed as dist

        if self._world_size > 1:
            for master in self._masters:
                # All ranks join every sum, also those whose rows did not reach a parameter.
                master.grad = torch.zeros_like(master) if master.grad is None else master.grad
                dist.all_reduce(master.grad)
        return super().step(learning_rate)

    def pieces(self) -> Iterator[Piece]:
        """Yield every rank's share of the parameters, whole ones."""
        for index, piece in enumerate(self._all_pieces()):
            if index % self._world_size == self._rank:
                yield piece

    def load(self, reader: ShardReader) -> None:
        """Restore the whole state on this rank."""
        import torch

        with torch.no_grad():
            for piece in self._all_pieces():
                piece.load(self.optimizer, reader)
            load_weights(self.model.named_parameters(), reader)

    def _all_pieces(self) -> Iterator[Piece]:
        names = [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        for name, master in zip(names, self._masters, strict=True):
            yield Piece(name, 0, master.numel(), master, 0)


def _rank_device() -> torch.device:
    import os

    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device
