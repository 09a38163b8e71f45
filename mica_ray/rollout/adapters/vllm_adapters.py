"""How vLLM gets an adapter: as files that a request names. Only vllm_backends.py uses it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.lora.folder import write_adapter
from mica_ray.rollout.weights import WeightBucket, unpack_adapter

if TYPE_CHECKING:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.lora.request import LoRARequest

_RANKS = (8, 16, 32, 64, 128, 256, 512)
"""Sizes of vLLM's buffers for adapters; a smaller adapter is padded."""


def buffer_rank(rank: int) -> int:
    """Return the size of the smallest buffer of vLLM that an adapter fits."""
    return min(size for size in _RANKS if size >= rank)


def shared_memory() -> str | None:
    """Return the folder of memory that processes share as files; None for the default of temporary files."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


class VllmAdapters:
    """The newest adapter as vLLM's requests name it, and its files, from which vLLM loads it.

    Args:
        is_supported: whether vLLM computes with adapters of this model.
    """

    def __init__(self, *, is_supported: bool) -> None:
        self._is_supported = is_supported
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.newest: LoRARequest | None = None

    def takes(self, buckets: Sequence[WeightBucket]) -> bool:
        """Whether buckets are loaded as an adapter; otherwise the worker adds them to the model's weights."""
        return self._is_supported and buckets[0].lora_scale is not None

    def replace(self, buckets: Sequence[WeightBucket]) -> tuple[LoRARequest | None, LoRARequest]:
        """Write the files of a new adapter; return the earlier request and the new one."""
        from vllm.lora.request import LoRARequest

        adapter, old = unpack_adapter(*buckets), self.newest
        assert adapter is not None, "takes() checks it"
        folder = tempfile.TemporaryDirectory(dir=shared_memory())
        write_adapter(Path(folder.name), adapter, base="")
        number = 1 if old is None else old.lora_int_id + 1
        self._folder = folder  # Deletes the earlier files.
        self.newest = LoRARequest(f"version {number}", number, folder.name)
        return old, self.newest


def takes_adapters(arguments: EngineArgs) -> bool:
    """Whether vLLM has layers with adapters for the architecture of the model."""
    from vllm.model_executor.models import ModelRegistry
    from vllm.model_executor.models.interfaces import supports_lora

    config = arguments.create_model_config()
    model, _ = ModelRegistry.resolve_model_cls(config.architectures, config)
    return supports_lora(model)
