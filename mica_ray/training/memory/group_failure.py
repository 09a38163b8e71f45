"""The message of a learner whose worker group ended."""

from __future__ import annotations

from mica_ray.memory_errors import cause_line, memory_line


def group_failure(error: Exception, restarts: int) -> str:
    """Return what ended the worker group and what to do.

    Args:
        error: of Ray Train.
        restarts: how often the group was started again before.
    """
    if killed := memory_line(error):
        return (
            f"The learner's worker group ran out of memory ({killed}). "
            "Set learner.gradient_checkpointing=true, lower learner.micro_batch_tokens, num_engines or "
            "engine.kv_cache_gib, then rerun with --resume; `--dry-run` lists the memory of each process."
        )
    rank = min(getattr(error, "worker_failures", None) or {0: error})
    return (
        f"The learner's worker group failed after {restarts} restarts (rank {rank}: {cause_line(error)}). "
        "Check its log, then rerun with --resume."
    )
