"""The answer of an engine's actor, within a deadline, and its failure as one line."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from mica_ray.error_lines import last_line
from mica_ray.memory_errors import cause_line, memory_line
from mica_ray.rollout.engine import EngineError

_Answer = TypeVar("_Answer")
_MEMORY_REMEDY = (
    "Lower engine.kv_cache_gib, num_engines or the learner's memory (mica train --dry-run lists all of it), "
    "then rerun with --resume."
)


async def answer_within(
    reference: ray.ObjectRef[_Answer], seconds: float, what: str, *, remedy: str = "raise the deadline"
) -> _Answer:
    """Wait for an actor's answer to a call that `what` names.

    Args:
        reference: of the answer.
        seconds: longest wait.
        what: the call, as the beginning of a sentence.
        remedy: what helps against a late answer.

    Raises:
        RayActorError: the actor is dead.
        EngineError: the actor missed the deadline or raised.
    """
    try:
        async with asyncio.timeout(seconds):
            return await reference
    except TimeoutError as error:
        ray.cancel(reference)
        raise EngineError(
            f"{what} timed out after {seconds:g} s. Check the engine's log, or {remedy}."
        ) from error
    except asyncio.CancelledError:
        ray.cancel(reference)  # The caller is gone, so the engine must stop sampling.
        raise
    except RayActorError:
        raise
    except RayTaskError as error:
        cause = error.cause
        raise EngineError(
            str(cause) if isinstance(cause, EngineError) else f"{what} failed: {last_line(error)}"
        ) from error
    except RayError as error:
        memory = f". {_MEMORY_REMEDY}" if memory_line(error) else ""
        raise EngineError(f"{what} failed: {cause_line(error)}{memory}") from error
