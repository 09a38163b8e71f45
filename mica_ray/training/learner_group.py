"""Size and deadlines of the Ray learner's worker group, apart so that configs need no Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mica_ray.checks import above, at_least, one_of
from mica_ray.training.policy_folder import Dtype

ZeroStage = Literal[0, 1, 2, 3]


@dataclass(frozen=True, slots=True)
class RayLearnerConfig:
    """The worker group that trains. The defaults fit two CPU cores."""

    num_workers: int = 1
    cpus_per_worker: float = 1.0
    """Logical CPUs that Ray reserves; torch uses as many threads, at least one."""
    gpus_per_worker: float = 0.0
    """A fraction shares the GPU with an engine; see engine.sleep_level."""
    zero_stage: ZeroStage = 1
    """DeepSpeed ZeRO stage: 0 shards nothing, 1 optimizer states, 2 also gradients, 3 also weights."""
    gradient_dtype: Dtype = "float32"
    """Type in which gradients of bfloat16 weights are summed over micro-batches and ranks. bfloat16 takes 2
    bytes per parameter less, and loses 1.5 % of a gradient at 240 micro-batches."""
    offload_optimizer: bool = False
    """Whether master weights and AdamW are in host memory, 12 bytes per parameter. From ZeRO 1 on."""
    offload_parameters: bool = False
    """Whether the shards of the weights are in host memory between their uses. ZeRO 3 only."""
    reduce_bucket_elements: int = 500_000_000
    """Gradients summed over the ranks in one call. Fewer take less memory and more calls."""
    gather_bucket_elements: int = 50_000_000
    """Weights gathered in one call after a step (ZeRO 1, 2), or in advance (ZeRO 3)."""
    max_failures: int = 3
    """Restarts of the group; the next failure ends the run."""
    checkpoint_every: int = 20
    """A restart of the group repeats at most this many updates: if the run writes no checkpoint for so long,
    the group writes its own."""
    background_checkpoints: bool | None = None
    """Whether a checkpoint is copied to host memory and written while training goes on: 12 bytes per trained
    parameter over all workers, and the policy on rank 0. None: with GPUs only."""
    start_seconds: float = 300.0
    """Longest wait for the group to load the policy, restarts included."""
    update_seconds: float = 3600.0
    """Longest wait for one update, save or restore, restarts included."""

    def __post_init__(self) -> None:
        """Check the counts, resources and deadlines."""
        at_least(
            1,
            num_workers=self.num_workers,
            checkpoint_every=self.checkpoint_every,
            reduce_bucket_elements=self.reduce_bucket_elements,
            gather_bucket_elements=self.gather_bucket_elements,
        )
        one_of((0, 1, 2, 3), zero_stage=self.zero_stage)
        one_of(("float32", "bfloat16"), gradient_dtype=self.gradient_dtype)
        if self.offload_parameters and self.zero_stage < 3:
            raise ValueError(
                f"offload_parameters needs zero_stage=3, which shards them, got zero_stage={self.zero_stage}."
            )
        if self.zero_stage == 0 and (self.offload_optimizer or self.gradient_dtype != "float32"):
            raise ValueError(
                "offload_optimizer and gradient_dtype=bfloat16 need DeepSpeed, got zero_stage=0. "
                "Set zero_stage=1."
            )
        above(
            0,
            cpus_per_worker=self.cpus_per_worker,
            start_seconds=self.start_seconds,
            update_seconds=self.update_seconds,
        )
        at_least(0, gpus_per_worker=self.gpus_per_worker, max_failures=self.max_failures)

    @property
    def copies_checkpoints(self) -> bool:
        """Whether checkpoints are written in the background."""
        wanted = self.background_checkpoints
        return self.gpus_per_worker > 0 if wanted is None else wanted
