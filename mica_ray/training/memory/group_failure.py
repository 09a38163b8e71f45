"""The messages of a learner whose worker, or whose whole group, ended."""

from __future__ import annotations

from mica_ray.memory_errors import cause_line, memory_line
from mica_ray.training.learner import LearnerError


def group_failure(error: Exception, restarts: int) -> str:
    """Return what ended the worker group and what to do.

    Args:
        error: of Ray Train.
        restarts: how often the group was started again before.
    """
    if killed := memory_line(error):
        return _out_of_memory("The learner's worker group", killed)
    rank = min(getattr(error, "worker_failures", None) or {0: error})
    return (
        f"The learner's worker group failed after {restarts} restarts (rank {rank}: {cause_line(error)}). "
        "Check its log, then rerun with --resume."
    )


def worker_failure(error: Exception, rank: int) -> str:
    """Return why a worker ended with an error that a restart cannot fix.

    Args:
        error: of the worker; those of this package name their remedy themselves.
        rank: of the worker.
    """
    if isinstance(error, LearnerError):
        return str(error)
    if line := memory_line(error):
        return _out_of_memory(f"Learner worker {rank}", line)
    return f"Learner worker {rank} failed: {cause_line(error)}"


def _out_of_memory(what: str, line: str) -> str:
    return (
        f"{what} ran out of memory ({line}). "
        "Set learner.gradient_checkpointing=true, lower learner.micro_batch_tokens, num_engines or "
        "engine.kv_cache_gib, then rerun with --resume; `--dry-run` lists the memory of each process."
    )
