"""What a rank owns of the fp32 master weights and of AdamW's state: views that are saved and restored.

The layout of ZeRO stages 1 to 3 inside DeepSpeed is known here only. The files are in shards.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mica_ray.training.sharded.shards import MOMENTS, WEIGHT, Shard, ShardReader

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of a flattened parameter, as a range of a tensor that the optimizer steps."""

    name: str
    start: int
    """First element in the flattened parameter."""
    length: int
    stepped: torch.Tensor
    """float32; the key of the optimizer's state."""
    offset: int
    """First element in the flattened `stepped`."""

    def shard(self, optimizer: torch.optim.Optimizer) -> Shard:
        """Return the piece as views of weight and moments; before the first step the moments are 0."""
        import torch

        state = optimizer.state.get(self.stepped, {})
        moments = {
            part: self._view(state[part]) if part in state else torch.zeros(self.length) for part in MOMENTS
        }
        weight = self._view(self.stepped.detach())
        return Shard(self.name, self.start, int(state.get("step", 0)), {WEIGHT: weight, **moments})

    def load(self, optimizer: torch.optim.Optimizer, reader: ShardReader) -> None:
        """Replace weight, moments and step by those of a checkpoint."""
        import torch

        state: dict[str, Any] = optimizer.state[self.stepped]
        state["step"] = torch.tensor(float(reader.step(self.name)))
        for part in MOMENTS:
            if part not in state:
                state[part] = torch.zeros_like(self.stepped)
            self._view(state[part]).copy_(self._read(reader, part))
        self._view(self.stepped.detach()).copy_(self._read(reader, WEIGHT))

    def _view(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.view(-1).narrow(0, self.offset, self.length)

    def _read(self, reader: ShardReader, part: str) -> torch.Tensor:
        return reader.read(self.name, part, start=self.start, length=self.length)


def zero_pieces(engine: Any, *, stage: int, rank: int) -> Iterator[Piece]:
    """Yield what this rank owns at ZeRO stage 1, 2 or 3.

    Stages 1 and 2 flatten all parameters of a group and cut the result into one part for each rank; stage 3
    cuts every parameter, and pads the last part. Frozen parameters have no optimizer state and no piece.
    """
    optimizer = engine.optimizer
    for name, parameter in engine.module.named_parameters():
        if not parameter.requires_grad:
            continue
        if stage < 3:
            place = parameter._hp_mapping
            if place is None:  # Other ranks own all of it.
                continue
            stepped = engine.basic_optimizer.param_groups[place.param_group_index]["params"][0]
            held, owned = place.lp_fragment_address, place.hp_fragment_address
            yield Piece(name, held.start, held.numel, stepped, owned.start)
        else:
            group, offset, padded = optimizer.grad_position[optimizer.get_param_id(parameter)]
            start = rank * padded
            length = min(padded, parameter.ds_numel - start)
            if length > 0:
                yield Piece(name, start, length, optimizer.fp32_partitioned_groups_flat[group], offset)


def load_zero(engine: Any, reader: ShardReader, *, stage: int, rank: int) -> None:
    """Restore what this rank owns, and the rounded weights of the forward pass. Collective.

    Raises:
        LearnerError: files of the checkpoint are missing.
    """
    import torch

    with torch.no_grad():
        for piece in zero_pieces(engine, stage=stage, rank=rank):
            piece.load(engine.basic_optimizer, reader)
        if stage < 3:
            load_weights(engine.module.named_parameters(), reader)
            return
        optimizer = engine.optimizer
        optimizer.checkpoint_event_prologue()
        by_name = dict(engine.module.named_parameters())
        for piece in zero_pieces(engine, stage=stage, rank=rank):
            part = by_name[piece.name].ds_tensor
            part.narrow(0, 0, piece.length).copy_(piece.stepped.narrow(0, piece.offset, piece.length))
        # Small parameters stay whole on every rank: they are gathered again.
        optimizer.checkpoint_event_epilogue()


def load_weights(named: Iterable[tuple[str, torch.Tensor]], reader: ShardReader) -> None:
    """Copy whole trained weights into parameters, rounded to their type."""
    for name, parameter in named:
        if parameter.requires_grad:
            whole = reader.read(name, WEIGHT, start=0, length=parameter.numel())
            parameter.detach().copy_(whole.view(parameter.shape))
