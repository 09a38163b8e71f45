"""Policy weights on their way to the engines: one contiguous bucket, published once, idempotent by version.

The bucket travels through Ray's object store when Ray runs and as itself otherwise, or stays with the
learner, which sends it by vLLM's weight transfer (`weight_transfer.py`); `vllm_weights.py` is inside vLLM.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

from mica_ray.rollout.engine import EngineError
from mica_ray.types import PolicyWeights

if TYPE_CHECKING:
    import torch
    from ray import ObjectRef
    from ray.actor import ActorHandle

_ALIGNMENT = 64
"""Bytes. Every tensor begins on a cache line, so that a view of any type is aligned."""

_FETCH_SECONDS = 120.0
"""Longest wait for a bucket from another node's object store."""


@dataclass(frozen=True, slots=True)
class WeightBucket:
    """A model's parameters in one array; picklable without a copy, readable by every process of a node.

    Attributes:
        names: parameter names in Hugging Face form, tied ones once.
        shapes: of each parameter.
        dtypes: of each parameter, torch's names: "float32", "bfloat16".
        data: [bytes] uint8, the parameters one after the other, each beginning on a multiple of 64 bytes.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    data: np.ndarray

    def __post_init__(self) -> None:
        """Refuse parts that disagree."""
        if not len(self.names) == len(self.shapes) == len(self.dtypes):
            raise ValueError(
                "names, shapes and dtypes must be equally long; "
                f"got {len(self.names)}, {len(self.shapes)}, {len(self.dtypes)}"
            )


@dataclass(frozen=True, slots=True)
class PublishedBucket:
    """A bucket in Ray's object store. Inside a dataclass Ray sends it on without fetching it."""

    reference: ObjectRef


TransferKind = Literal["nccl", "gloo"]
TransferStep = Literal["init", "start", "update", "finish"]
"""The four calls of vLLM's weight transfer: join the group, make ready, receive, make usable."""


@dataclass(frozen=True, slots=True)
class TransferRoute:
    """How a learner reaches the engines of its run."""

    kind: TransferKind
    workers_per_engine: int
    """vLLM workers of one engine: its tensor parallel size."""


@dataclass(frozen=True, slots=True)
class TransferSession:
    """One sending of the newest weights to some engines."""

    route: TransferRoute
    engines: tuple[ActorHandle, ...]
    """Actors of `VllmEngine`, all waiting in `load_weights`."""
    deadline_seconds: float
    """For the whole of it: a peer of a collective that is gone is not always noticed."""


@runtime_checkable
class WeightSender(Protocol):
    """Weights that stay with the learner until engines ask for them: a `PolicyWeights.source`."""

    async def send(self, engines: tuple[ActorHandle, ...], deadline_seconds: float) -> None:
        """Send the newest weights to engines that have been told of it, and wait until they use them.

        Raises:
            Exception: they did not all get them, in one line.
        """
        ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """What an engine is told in place of weights: they come by transfer."""


def pack_weights(named: Iterable[tuple[str, torch.Tensor]]) -> WeightBucket:
    """Copy parameters into one bucket, on the CPU and in their own types.

    Tensors that are the same memory (tied embeddings) go in once; `lm_head.weight` is the name that gives
    way, since that is what Hugging Face checkpoints leave out.

    Args:
        named: names in Hugging Face form and whole tensors (gathered, where they are sharded).
    """
    import torch

    tensors = _without_ties(named)
    sizes = [tensor.numel() * tensor.element_size() for tensor in tensors.values()]
    offsets, total = _offsets(sizes)
    data = np.zeros(total, dtype=np.uint8)
    whole = torch.from_numpy(data)
    for offset, size, tensor in zip(offsets, sizes, tensors.values(), strict=True):
        whole[offset : offset + size].view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())
    return WeightBucket(
        names=tuple(tensors),
        shapes=tuple(tuple(tensor.shape) for tensor in tensors.values()),
        dtypes=tuple(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()),
        data=data,
    )


def unpack_weights(bucket: WeightBucket) -> Iterator[tuple[str, torch.Tensor]]:
    """Give the parameters of a bucket as views of its memory. They must not be written to.

    Raises:
        EngineError: the bucket is shorter than its shapes say.
    """
    import torch

    types = [getattr(torch, name) for name in bucket.dtypes]
    sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in zip(bucket.shapes, types, strict=True)]
    offsets, total = _offsets(sizes)
    if total != bucket.data.nbytes:
        raise EngineError(
            f"weight bucket holds {bucket.data.nbytes} bytes where its shapes need {total}: send it again"
        )
    with warnings.catch_warnings():
        # The object store hands out read-only memory; torch warns, and nobody here writes.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        whole = torch.from_numpy(bucket.data)
    for name, shape, dtype, offset, size in zip(
        bucket.names, bucket.shapes, types, offsets, sizes, strict=True
    ):
        yield name, whole[offset : offset + size].view(dtype).view(shape)


def publish(bucket: WeightBucket, version: int) -> PolicyWeights:
    """Give the weights in the form in which they travel: once into the object store when Ray runs here."""
    # Looking into sys.modules keeps a run without Ray from importing it.
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return PolicyWeights(version=version, source=bucket)
    return PolicyWeights(version=version, source=PublishedBucket(ray.put(bucket)))


def resolve(weights: PolicyWeights) -> WeightBucket:
    """Give the bucket that `publish` published, in this process. Blocks while it comes from another node.

    Raises:
        EngineError: the source is none of ours, or the object store lost it.
    """
    source = weights.source
    if isinstance(source, WeightBucket):
        return source
    if not isinstance(source, PublishedBucket):
        raise EngineError(
            f"weights version {weights.version} come as {type(source).__name__}; "
            "make them with rollout.weights.publish"
        )
    import ray
    from ray.exceptions import RayError

    try:
        return ray.get(source.reference, timeout=_FETCH_SECONDS)
    except RayError as error:  # Lost, late, or their maker died.
        raise EngineError(
            f"weights version {weights.version} do not come out of the object store "
            f"({type(error).__name__}): publish them again"
        ) from error


def _without_ties(named: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    kept: dict[tuple[object, ...], tuple[str, torch.Tensor]] = {}
    for name, tensor in named:
        key: tuple[object, ...] = (
            tensor.device,
            tensor.data_ptr(),
            tuple(tensor.shape),
            tensor.stride(),
            tensor.dtype,
        )
        if tensor.numel() == 0:
            key = (name,)  # Empty tensors share the address 0 without being one.
        if key not in kept or kept[key][0].endswith("lm_head.weight"):
            kept[key] = (name, tensor)
    return dict(kept.values())


def _offsets(sizes: list[int]) -> tuple[list[int], int]:
    offsets: list[int] = []
    end = 0
    for size in sizes:
        offsets.append(end)
        end += (
            -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT
        )  # torch cannot view an empty array as another type.
    return offsets, end
