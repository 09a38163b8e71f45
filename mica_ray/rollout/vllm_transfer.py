"""Additions to vLLM's weight-transfer API: buckets as source, gloo as transport on CPUs.

Gloo follows the code path of NCCL, so everything except NCCL itself is tested without GPUs. Importing this
imports vLLM. The sending side is weight_transfer.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import ClassVar, Self

import torch
from torch.distributed import BroadcastOptions, ProcessGroup
from vllm.distributed.utils import stateless_init_torch_distributed_process_group
from vllm.distributed.weight_transfer import WeightTransferEngineFactory, WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.base import ParamMeta, VLLMWeightSyncClient, WeightSource
from vllm.distributed.weight_transfer.nccl_engine import (
    NCCLTrainerInitInfo,
    NCCLTrainerWeightTransferEngine,
    NCCLWeightTransferEngine,
    NCCLWeightTransferInitInfo,
    NCCLWeightTransferUpdateInfo,
)

from mica_ray.rollout.vllm_weights import WeightReceiver
from mica_ray.rollout.weights import WeightBucket, unpack_weights

__all__ = ["BucketSource", "GlooTrainerInitInfo", "WeightReceiver"]


class BucketSource(WeightSource):
    """The newest buckets as a weight source of vLLM's trainer side."""

    def __init__(self, newest: Callable[[], Sequence[WeightBucket]], device: torch.device) -> None:
        """Keep the function that returns the newest buckets, and the device to send from."""
        self._newest = newest
        self._device = device

    def metadata(self) -> list[ParamMeta]:
        """Return name, type and shape of every parameter."""
        return [
            ParamMeta(name, tensor.dtype, tuple(tensor.shape))
            for name, tensor in unpack_weights(*self._newest())
        ]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the parameters, one at a time on the device."""
        for name, tensor in unpack_weights(*self._newest()):
            yield name, tensor.to(self._device)


@dataclass
class GlooTrainerInitInfo(NCCLTrainerInitInfo):
    """Arguments with which rank 0 opens a process group of CPUs; the fields are those of NCCL."""

    backend: ClassVar[str] = "gloo"


class GlooTrainerEngine(NCCLTrainerWeightTransferEngine):
    """vLLM's sending side over gloo instead of NCCL, in rounds of start, update and finish."""

    _gloo: ProcessGroup

    @classmethod
    def trainer_init(
        cls,
        init_info: NCCLTrainerInitInfo,
        *,
        client: VLLMWeightSyncClient,
        source: WeightSource | None = None,
    ) -> Self:
        """Join the process group; the trainer and the workers wait for each other."""
        assert source is not None
        engine = cls(client=client, source=source, packed=False)
        info = NCCLWeightTransferInitInfo(
            master_address=init_info.master_address,
            master_port=init_info.master_port,
            rank_offset=1,
            world_size=init_info.world_size,
        )
        with ThreadPoolExecutor(max_workers=1) as thread:
            joined = thread.submit(client.init_weight_transfer_engine, asdict(info))
            engine._gloo = _group(info, rank=0)
            joined.result()
        return engine

    def _broadcast(self, source: WeightSource, meta: list[ParamMeta]) -> None:
        for _, tensor in self._checked_iter(source, meta):
            _share(self._gloo, tensor.contiguous())


class GlooEngine(NCCLWeightTransferEngine):
    """vLLM's receiving side over gloo instead of NCCL, inside vLLM's worker."""

    _gloo: ProcessGroup

    def init_transfer_engine(self, init_info: NCCLWeightTransferInitInfo) -> None:
        """Join the process group of the trainer and the other workers."""
        parallel = self.parallel_config
        rank = parallel.data_parallel_index * parallel.world_size + parallel.rank
        self._gloo = _group(init_info, rank=init_info.rank_offset + rank)

    def update_weights(self, update_info: dict[str, object]) -> None:
        """Receive every parameter and load it. CPUs need no synchronisation."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: NCCLWeightTransferUpdateInfo) -> None:
        """Receive every parameter and load it."""
        for name, dtype, shape in zip(
            update_info.names, update_info.dtype_names, update_info.shapes, strict=True
        ):
            weight = torch.empty(shape, dtype=getattr(torch, dtype))
            _share(self._gloo, weight)
            # vLLM's models have this method; `nn.Module` does not declare it.
            self.model.load_weights([(name, weight)])  # pyright: ignore[reportCallIssue]


def _group(info: NCCLWeightTransferInitInfo, *, rank: int) -> ProcessGroup:
    group = stateless_init_torch_distributed_process_group(
        info.master_address, info.master_port, rank, info.world_size, "gloo"
    )
    assert isinstance(group, ProcessGroup)
    return group


def _share(group: ProcessGroup, tensor: torch.Tensor) -> None:
    """Broadcast rank 0's tensor; the tensors of the other ranks are overwritten."""
    options = BroadcastOptions()
    options.rootRank, options.rootTensor = 0, 0
    group.broadcast([tensor], options).wait()


def register() -> None:
    """Register "gloo" with vLLM in this process. A second call does nothing."""
    if "gloo" not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine("gloo", GlooEngine)
        WeightTransferTrainerFactory.register_engine("gloo", GlooTrainerEngine)


register()
