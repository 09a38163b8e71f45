"""Size and deadlines of the Ray learner's worker group, apart so that configs need no Ray."""

from __future__ import annotations

from dataclasses import dataclass

from mica_ray.checks import above, at_least, one_of
from mica_ray.training.deepspeed import ZeroStage


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
    max_failures: int = 3
    """Restarts of the group; the next failure ends the run."""
    checkpoint_every: int = 20
    """Updates between the group's own checkpoints. A restart repeats the updates after the last one."""
    start_seconds: float = 300.0
    """Longest wait for the group to load the policy, restarts included."""
    update_seconds: float = 3600.0
    """Longest wait for one update, save or restore, restarts included."""

    def __post_init__(self) -> None:
        """Check the counts, resources and deadlines."""
        at_least(1, num_workers=self.num_workers, checkpoint_every=self.checkpoint_every)
        one_of((0, 1, 2, 3), zero_stage=self.zero_stage)
        above(
            0,
            cpus_per_worker=self.cpus_per_worker,
            start_seconds=self.start_seconds,
            update_seconds=self.update_seconds,
        )
        at_least(0, gpus_per_worker=self.gpus_per_worker, max_failures=self.max_failures)
