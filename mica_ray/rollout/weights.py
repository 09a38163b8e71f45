"""Policy weights for the engines, in contiguous buckets, published once per version.

With Ray the buckets go through the object store, without Ray they are passed directly. Or the learner sends
them through vLLM's weight transfer (weight_transfer.py). vllm_weights.py loads them inside vLLM.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

from mica_ray.lora.adapter import Adapter, LoraError
from mica_ray.rollout.engine import EngineError
from mica_ray.types import PolicyWeights

if TYPE_CHECKING:
    import torch
    from ray import ObjectRef
    from ray.actor import ActorHandle

_ALIGNMENT = 64
"""Bytes. Every tensor starts on a cache line, so that a view of any type is aligned."""

_FETCH_SECONDS = 120.0
"""Longest wait for buckets from another node."""

BUCKET_BYTES = 64 * 2**20
"""Size from which a bucket of a sharded or remote learner is sent; one tensor may be larger."""


@dataclass(frozen=True, slots=True)
class WeightBucket:
    """Parameters of a model in one array, pickled without a copy and shared within a node.

    A version of the weights is one bucket or several, which have the parameters of a model between them.

    Attributes:
        names: parameter names in Hugging Face form, tied parameters once.
        shapes: of each parameter.
        dtypes: of each parameter, as torch names them: "float32", "bfloat16".
        data: [bytes] uint8, the parameters one after the other, each starting at a multiple of 64 bytes.
        lora_scale: None for all weights. Otherwise the parameters are those of an adapter (mica_ray/lora), to
            be added with this scale to the weights that were loaded last as a whole.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    data: np.ndarray
    lora_scale: float | None = None

    def __post_init__(self) -> None:
        """Check that the parts have equal lengths."""
        if not len(self.names) == len(self.shapes) == len(self.dtypes):
            raise ValueError(
                "names, shapes and dtypes must have equal lengths, got "
                f"{len(self.names)}, {len(self.shapes)} and {len(self.dtypes)}."
            )


@dataclass(frozen=True, slots=True)
class PublishedBuckets:
    """Buckets in Ray's object store; inside a dataclass the reference is not fetched."""

    reference: ObjectRef
    """Of one bucket, or of a tuple with the reference of each."""


TransferKind = Literal["nccl", "gloo"]
TransferStep = Literal["init", "start", "update", "finish"]
"""The four calls of vLLM's weight transfer: join the group, prepare, receive, make usable."""


@dataclass(frozen=True, slots=True)
class TransferRoute:
    """How a learner sends weights to the engines of its run."""

    kind: TransferKind
    workers_per_engine: int
    """vLLM workers of one engine, equal to its tensor parallel size."""


@dataclass(frozen=True, slots=True)
class TransferSession:
    """One transfer of the newest weights to some engines."""

    route: TransferRoute
    engines: tuple[ActorHandle, ...]
    """Actors of `VllmEngine`, all waiting in `load_weights`."""
    deadline_seconds: float
    """For the whole transfer, because a dead peer of a collective is not always detected."""


@runtime_checkable
class WeightSender(Protocol):
    """A `PolicyWeights.source` whose weights stay with the learner until it sends them."""

    async def send(self, engines: tuple[ActorHandle, ...], deadline_seconds: float) -> None:
        """Send the newest weights to engines that expect them; wait until they are loaded.

        Raises:
            Exception: not every engine loaded them; the message is one line.
        """
        ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """Placeholder for weights that reach the engine by transfer."""


def pack_weights(
    named: Iterable[tuple[str, torch.Tensor]], *, lora_scale: float | None = None
) -> WeightBucket:
    """Copy parameters into one bucket on the CPU, in their own types.

    Tensors that share memory (tied embeddings) are stored once. Of their names `lm_head.weight` is dropped,
    as in Hugging Face checkpoints.

    Args:
        named: names in Hugging Face form and whole tensors (gathered where they are sharded).
        lora_scale: of an adapter; None for all weights.
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
        lora_scale=lora_scale,
    )


def pack_buckets(
    named: Iterable[tuple[str, torch.Tensor]], *, lora_scale: float | None = None, size: int = BUCKET_BYTES
) -> Iterator[WeightBucket]:
    """Copy parameters into buckets on the CPU, one bucket at a time.

    Args:
        named: names in Hugging Face form and whole tensors, tied parameters once. A tensor is read before the
            next one is asked for.
        lora_scale: of an adapter; None for all weights.
        size: bytes from which a bucket is complete.
    """
    waiting: list[tuple[str, torch.Tensor]] = []
    total = 0
    for name, tensor in named:
        added = tensor.numel() * tensor.element_size()
        if added >= size:
            yield pack_weights([(name, tensor)], lora_scale=lora_scale)
            continue
        waiting.append((name, tensor.detach().to("cpu", copy=True)))
        total += added
        if total >= size:
            yield pack_weights(waiting, lora_scale=lora_scale)
            waiting, total = [], 0
    if waiting:
        yield pack_weights(waiting, lora_scale=lora_scale)


def unpack_weights(*buckets: WeightBucket) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parameters of buckets as views of their memory, which must not be written to.

    Raises:
        EngineError: the size of a bucket does not match its shapes.
    """
    for bucket in buckets:
        yield from _views(bucket)


def _views(bucket: WeightBucket) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    types = [getattr(torch, name) for name in bucket.dtypes]
    sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in zip(bucket.shapes, types, strict=True)]
    offsets, total = _offsets(sizes)
    if total != bucket.data.nbytes:
        raise EngineError(
            f"The weight bucket has {bucket.data.nbytes} bytes, its shapes need {total}. Publish the weights "
            "again."
        )
    with warnings.catch_warnings():
        # Memory of the object store is read-only. torch warns about it, but the views are never written to.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        whole = torch.from_numpy(bucket.data)
    for name, shape, dtype, offset, size in zip(
        bucket.names, bucket.shapes, types, offsets, sizes, strict=True
    ):
        yield name, whole[offset : offset + size].view(dtype).view(shape)


def unpack_adapter(*buckets: WeightBucket) -> Adapter | None:
    """Return the adapter in the buckets; None if they have all weights.

    Raises:
        EngineError: it is broken.
    """
    scale = buckets[0].lora_scale
    if scale is None:
        return None
    try:
        return Adapter(dict(unpack_weights(*buckets)), scale)
    except LoraError as error:
        raise EngineError(str(error)) from error


def publish(bucket: WeightBucket, version: int) -> PolicyWeights:
    """Return weights that engines can load; with Ray the bucket is in the object store."""
    # sys.modules is read so that a run without Ray does not import it.
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return PolicyWeights(version=version, source=bucket)
    return PolicyWeights(version=version, source=PublishedBuckets(ray.put(bucket)))


def resolve(weights: PolicyWeights) -> tuple[WeightBucket, ...]:
    """Return the buckets of published weights, waiting while they are fetched from another node.

    On the node that stores them they are views of its object store.

    Raises:
        EngineError: the source has an unknown type, or the object store lost a bucket.
    """
    source = weights.source
    if isinstance(source, WeightBucket):
        return (source,)
    if not isinstance(source, PublishedBuckets):
        raise EngineError(
            f"Weights version {weights.version} have a source of type {type(source).__name__}. Create them "
            "with rollout.weights.publish."
        )
    import ray
    from ray.exceptions import RayError

    try:
        found = ray.get(source.reference, timeout=_FETCH_SECONDS)
        if isinstance(found, WeightBucket):
            return (found,)
        return tuple(ray.get(list(found), timeout=_FETCH_SECONDS))
    except RayError as error:  # Lost, late, or the process that owns them died.
        raise EngineError(
            f"Weights version {weights.version} cannot be read from the object store "
            f"({type(error).__name__}). Publish them again."
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
            key = (name,)  # Empty tensors share address 0 without being tied.
        if key not in kept or kept[key][0].endswith("lm_head.weight"):
            kept[key] = (name, tensor)
    return dict(kept.values())


def _offsets(sizes: list[int]) -> tuple[list[int], int]:
    offsets: list[int] = []
    end = 0
    for size in sizes:
        offsets.append(end)
        # At least one line each: torch cannot view an empty array as another type.
        end += -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT
    return offsets, end
