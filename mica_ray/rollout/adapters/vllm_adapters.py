"""How vLLM gets an adapter: as files that a request names. Only vllm_backends.py uses it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.lora.adapter import Adapter
from mica_ray.lora.folder import read_adapter, write_adapter
from mica_ray.rollout.engine import EngineError
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
    """Adapters as vLLM's requests name them: the newest one of a learner, and those of a service.

    Args:
        is_supported: whether vLLM computes with adapters of this model.
        served: folders of adapters by id.

    Raises:
        EngineError: there are adapters to serve, and vLLM cannot compute with them.
    """

    def __init__(self, *, is_supported: bool, served: Mapping[str, str] | None = None) -> None:
        self._is_supported = is_supported
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._served: dict[str, LoRARequest] = {}
        self.newest: LoRARequest | None = None
        if served:
            self._serve(served)

    def request(self, name: str = "") -> LoRARequest | None:
        """Return what vLLM needs with a request for a served adapter, or by default for the newest one."""
        return self._served[name] if self._served else self.newest

    def _serve(self, folders: Mapping[str, str]) -> None:
        """Number the adapters, and one that changes nothing for requests without an adapter.

        On CPUs vLLM 0.29 gives such a request the adapter of another one in its batch.
        """
        from vllm.lora.request import LoRARequest

        if not self._is_supported:
            raise EngineError(
                f"vLLM has no adapters for the architecture of this model, so {', '.join(folders)} cannot "
                "share its engine. Serve the whole models that `mica merge` writes."
            )
        self._folder = _zero_adapter(Path(next(iter(folders.values()))))
        for number, (name, folder) in enumerate({**folders, "": self._folder.name}.items(), 1):
            self._served[name] = LoRARequest(name or "no adapter", number, folder)

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


def _zero_adapter(like: Path) -> tempfile.TemporaryDirectory[str]:
    """Write an adapter for the layers of another one that changes nothing: B = 0."""
    import torch

    adapter = read_adapter(like)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in adapter.tensors.items()}
    folder = tempfile.TemporaryDirectory(dir=shared_memory())
    write_adapter(Path(folder.name), Adapter(zeros, adapter.scale), base="")
    return folder


def takes_adapters(arguments: EngineArgs) -> bool:
    """Whether vLLM has layers with adapters for the architecture of the model."""
    from vllm.model_executor.models import ModelRegistry
    from vllm.model_executor.models.interfaces import supports_lora

    config = arguments.create_model_config()
    model, _ = ModelRegistry.resolve_model_cls(config.architectures, config)
    return supports_lora(model)
