"""Optimizer state on disk in shards: each rank writes what it owns, any number of ranks reads it back.

`FOLDER/rank-00000-of-00002.safetensors`. What a rank owns at each ZeRO stage is in pieces.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mica_ray.training.learner import LearnerError

if TYPE_CHECKING:
    import torch

WEIGHT = "weight"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's moments, as torch and DeepSpeed name them."""
PARTS = (WEIGHT, *MOMENTS)
_SHARDS = "shards"


@dataclass(frozen=True, slots=True)
class Shard:
    """A contiguous range of one flattened parameter that one rank owns."""

    name: str
    """Of the parameter, in Hugging Face form."""
    start: int
    """Index of the first element in the flattened parameter."""
    step: int
    """AdamW's steps for this parameter."""
    parts: Mapping[str, torch.Tensor]
    """[elements] float32 each: the master weight and the two moments, by the names in `PARTS`."""

    def copied(self) -> Shard:
        """Return a copy in host memory, which later steps do not change."""
        parts = {part: tensor.to("cpu", copy=True) for part, tensor in self.parts.items()}
        return replace(self, parts=parts)


def write_shards(folder: Path, shards: Iterable[Shard], *, rank: int, world_size: int) -> Path:
    """Write the shards of one rank into one file, and flush it to the disk.

    Args:
        folder: the same for all ranks; created when missing.
        shards: of this rank; at most one for each parameter.
        rank: this rank.
        world_size: number of ranks.

    Returns:
        The file.

    Raises:
        OSError: the disk is full or not writable.
        safetensors.SafetensorError: the same, as reported by its writer.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rank-{rank:05d}-of-{world_size:05d}.safetensors"
    places: dict[str, tuple[int, int]] = {}
    tensors: dict[str, torch.Tensor] = {}
    for shard in shards:
        places[shard.name] = (shard.start, shard.step)
        tensors.update({f"{shard.name}/{part}": shard.parts[part] for part in PARTS})
    save_file(tensors, path, metadata={_SHARDS: json.dumps(places)})
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path


@dataclass(frozen=True, slots=True)
class _Range:
    """Where a range of a parameter is stored."""

    start: int
    end: int
    step: int
    file: Any
    """An open safetensors file."""


class ShardReader:
    """Reads any range of any parameter from the shards of all ranks. Only what is asked for is read."""

    def __init__(self, folder: Path, ranges: Mapping[str, list[_Range]]) -> None:
        """Use `open_shards`."""
        self._folder, self._ranges = folder, ranges

    def read(self, name: str, part: str, *, start: int, length: int) -> torch.Tensor:
        """Return a range of a flattened parameter: [length] float32, on the CPU.

        Args:
            name: of the parameter.
            part: one of `PARTS`.
            start: first element.
            length: number of elements.

        Raises:
            LearnerError: a part of the range is in no file.
        """
        import torch

        found = torch.empty(length, dtype=torch.float32)
        num_found = 0
        for range_ in self._ranges.get(name, ()):
            first, last = max(start, range_.start), min(start + length, range_.end)
            if first >= last:
                continue
            stored = range_.file.get_slice(f"{name}/{part}")
            found[first - start : last - start] = stored[first - range_.start : last - range_.start]
            num_found += last - first
        if num_found != length:
            raise LearnerError(
                f"{self._folder} has {num_found} of {length} values of {name}. Use another checkpoint."
            )
        return found

    def step(self, name: str) -> int:
        """Return AdamW's steps for a parameter; 0 if it has no shard."""
        return max((range_.step for range_ in self._ranges.get(name, ())), default=0)


@contextmanager
def open_shards(folder: Path) -> Iterator[ShardReader]:
    """Open the shards that all ranks wrote into a folder.

    Raises:
        LearnerError: a file is missing or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    paths = sorted(folder.glob("rank-*.safetensors"))
    expected = paths[0].stem.rpartition("-")[2] if paths else "1"
    if len(paths) != int(expected):
        raise LearnerError(
            f"{folder} has {len(paths)} of {int(expected)} files of optimizer state. Use another checkpoint."
        )
    ranges: dict[str, list[_Range]] = {}
    with ExitStack() as stack:
        for path in paths:
            try:
                file: Any = stack.enter_context(safe_open(path, framework="pt"))
                places = json.loads(file.metadata()[_SHARDS])
            except (SafetensorError, KeyError, TypeError, ValueError) as error:
                raise LearnerError(
                    f"{path} is no file of optimizer state ({error}). Use another checkpoint."
                ) from error
            for name, (start, step) in places.items():
                length = file.get_slice(f"{name}/{WEIGHT}").get_shape()[0]
                ranges.setdefault(name, []).append(_Range(start, start + length, step, file))
        yield ShardReader(folder, ranges)
