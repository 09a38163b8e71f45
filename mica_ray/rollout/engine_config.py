"""The settings of one vLLM engine, and which of them exclude each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mica_ray.checks import above, at_least, one_of
from mica_ray.rollout.weights import TransferKind


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One vLLM engine. The defaults are an engine on one CPU for a small model."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    max_model_len: int = 1024
    """Tokens of prompt and reply together."""
    tensor_parallel: int = 1
    """GPUs over which one model is sharded."""
    gpus_per_engine: float = 0.0
    """0 runs on CPUs. A fraction shares one GPU. Must equal tensor_parallel when that is > 1."""
    cpus_per_engine: int = 1
    """CPUs that Ray reserves for the engine; also its number of threads."""
    kv_cache_gib: float = 1.0
    """Largest size of one engine's key-value cache, GiB per GPU. A run reserves less where its dialogues
    cannot fill it."""
    max_num_seqs: int = 128
    """Replies sampled in one batch."""
    backend: Literal["auto", "in_process", "async"] = "auto"
    """auto: in_process without GPUs, async with them. An in-process engine starts ten times faster."""
    enforce_eager: bool | None = None
    """None: eager without GPUs only, because compiling for CPUs takes longer than a small run."""
    guidance: bool = True
    """Whether replies can be constrained to a JSON schema."""
    sleep_level: Literal[0, 1, 2] = 0
    """What the engine frees during updates, for a learner on the same GPU. 0: nothing. 1: its cache, and the
    weights move to host memory. 2: cache and weights; the next weights replace them anyway."""
    weight_transfer: Literal["bucket"] | TransferKind = "bucket"
    """How weights reach the engine. bucket: through Ray's object store. nccl: directly from the learner's
    first GPU to the engine's GPUs, which it must not share. gloo: the same path between CPUs."""
    lora_rank: int = 0
    """Largest rank of the adapters that the learner pushes, or a service has; 0: none. Derived from both."""
    lora_slots: int = 1
    """Adapters that replies of one batch may use. Derived from what is served."""

    def __post_init__(self) -> None:
        """Check each setting, then the combinations."""
        one_of(("float32", "bfloat16"), dtype=self.dtype)
        one_of(("auto", "in_process", "async"), backend=self.backend)
        one_of(("bucket", "nccl", "gloo"), weight_transfer=self.weight_transfer)
        one_of((0, 1, 2), sleep_level=self.sleep_level)
        if self.sleep_level and not self.gpus_per_engine:
            raise ValueError("sleep_level > 0 needs a GPU. Set gpus_per_engine, or sleep_level=0.")
        if self.sleep_level and self.weight_transfer != "bucket":
            raise ValueError(
                f"sleep_level > 0 is for an engine that shares its GPU with the learner, and "
                f"weight_transfer={self.weight_transfer} needs GPUs apart. Set weight_transfer=bucket."
            )
        if self.weight_transfer == "nccl" and self.gpus_per_engine < 1:
            raise ValueError(
                f"weight_transfer=nccl needs whole GPUs: gpus_per_engine must be >= 1, got "
                f"{self.gpus_per_engine}."
            )
        at_least(
            1,
            max_model_len=self.max_model_len,
            tensor_parallel=self.tensor_parallel,
            cpus_per_engine=self.cpus_per_engine,
            max_num_seqs=self.max_num_seqs,
            lora_slots=self.lora_slots,
        )
        above(0, kv_cache_gib=self.kv_cache_gib)
        at_least(0, gpus_per_engine=self.gpus_per_engine, lora_rank=self.lora_rank)
        if self.tensor_parallel > 1 and self.gpus_per_engine != self.tensor_parallel:
            raise ValueError(
                f"gpus_per_engine must equal tensor_parallel = {self.tensor_parallel}, got "
                f"{self.gpus_per_engine}."
            )

    @property
    def is_in_process(self) -> bool:
        """Whether vLLM runs in a thread of its actor's process."""
        return self.backend == "in_process" or (self.backend == "auto" and not self.gpus_per_engine)

    @property
    def memory_share(self) -> float | None:
        """Share of its GPU that must be free when the engine starts; None is vLLM's default.

        The size of the cache is `kv_cache_gib`, whatever the share.
        """
        return self.gpus_per_engine if 0 < self.gpus_per_engine < 1 else None

    @property
    def is_eager(self) -> bool:
        """Whether the model runs without compilation."""
        return self.enforce_eager if self.enforce_eager is not None else not self.gpus_per_engine
