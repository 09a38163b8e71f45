"""How large and how patient the Ray learner's worker group is; apart, so that a config needs no Ray."""

from __future__ import annotations

from dataclasses import dataclass

from mica_ray.training.deepspeed import ZeroStage


@dataclass(frozen=True, slots=True)
class RayLearnerConfig:
    """The worker group that trains. The defaults fit two CPU cores."""

    num_workers: int = 1
    cpus_per_worker: float = 1.0
    """Logical CPUs Ray reserves; torch gets as many threads, at least one."""
    gpus_per_worker: float = 0.0
    zero_stage: ZeroStage = 1
    """DeepSpeed ZeRO: 0 shards nothing, 1 optimiser states, 2 also gradients, 3 also weights."""
    max_failures: int = 3
    """Restarts of the group before the run ends."""
    checkpoint_every: int = 20
    """Updates between the group's own checkpoints, to which a restart falls back; what came after is done
    again."""
    start_seconds: float = 300.0
    """Longest wait for the group to load the policy, restarts included."""
    update_seconds: float = 3600.0
    """Longest wait for one update, save or restore, restarts included."""

    def __post_init__(self) -> None:
        """Refuse groups nobody can start."""
        for name in ("num_workers", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}")
        if self.zero_stage not in (0, 1, 2, 3):
            raise ValueError(f"zero_stage must be 0, 1, 2 or 3; got {self.zero_stage}")
        for name in ("cpus_per_worker", "start_seconds", "update_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0; got {getattr(self, name)}")
        for name in ("gpus_per_worker", "max_failures"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0; got {getattr(self, name)}")
