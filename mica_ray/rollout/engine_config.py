"""One vLLM engine as a value: what it is made of, and the settings that cannot be together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mica_ray.rollout.weights import TransferKind


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One vLLM engine. The defaults are an engine on one CPU for a small model."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    max_model_len: int = 1024
    """Tokens of prompt and reply together."""
    tensor_parallel: int = 1
    """GPUs over which one model is split."""
    gpus_per_engine: float = 0.0
    """0: on CPUs. A fraction shares one GPU; with tensor_parallel > 1 it must equal it."""
    cpus_per_engine: int = 1
    """CPUs that Ray reserves for the engine, and its threads."""
    kv_cache_gib: float = 1.0
    """Memory of the key-value cache of one engine, GiB."""
    max_num_seqs: int = 128
    """Replies sampled together."""
    backend: Literal["auto", "in_process", "async"] = "auto"
    """auto: in_process without GPUs, async with. In this process an engine starts ten times faster."""
    enforce_eager: bool | None = None
    """None: without GPUs; compiling for CPUs takes longer than a small run."""
    guidance: bool = True
    """Whether replies can be held to a JSON schema."""
    weight_transfer: Literal["bucket"] | TransferKind = "bucket"
    """How weights come. bucket: through Ray's object store. nccl: from the learner's first GPU straight to
    the engines' own, each on GPUs that nobody shares; gloo: the same path between CPUs."""

    def __post_init__(self) -> None:
        """Refuse engines that cannot be."""
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f'dtype must be "float32" or "bfloat16"; got {self.dtype!r}')
        if self.backend not in ("auto", "in_process", "async"):
            raise ValueError(f'backend must be "auto", "in_process" or "async"; got {self.backend!r}')
        if self.weight_transfer not in ("bucket", "nccl", "gloo"):
            raise ValueError(
                f'weight_transfer must be "bucket", "nccl" or "gloo"; got {self.weight_transfer!r}'
            )
        if self.weight_transfer == "nccl" and self.gpus_per_engine < 1:
            raise ValueError(
                f"weight_transfer=nccl needs whole GPUs, gpus_per_engine >= 1; got {self.gpus_per_engine}"
            )
        for name in ("max_model_len", "tensor_parallel", "cpus_per_engine", "max_num_seqs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}")
        if not self.kv_cache_gib > 0:
            raise ValueError(f"kv_cache_gib must be > 0; got {self.kv_cache_gib}")
        if self.gpus_per_engine < 0:
            raise ValueError(f"gpus_per_engine must be >= 0; got {self.gpus_per_engine}")
        if self.tensor_parallel > 1 and self.gpus_per_engine != self.tensor_parallel:
            raise ValueError(
                f"gpus_per_engine must equal tensor_parallel = {self.tensor_parallel}; "
                f"got {self.gpus_per_engine}"
            )

    @property
    def is_in_process(self) -> bool:
        """Whether the engine steps in a thread of its actor."""
        return self.backend == "in_process" or (self.backend == "auto" and not self.gpus_per_engine)

    @property
    def is_eager(self) -> bool:
        """Whether the model runs uncompiled."""
        return self.enforce_eager if self.enforce_eager is not None else not self.gpus_per_engine
