"""The message of a learner whose worker group ended names the cause, and the settings if it was memory."""

from __future__ import annotations

from ray.exceptions import OutOfMemoryError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from mica_ray.training.memory.group_failure import group_failure
from tests.test_memory_errors import LINE, MESSAGE


def test_worker_killed_for_memory_is_named_with_the_settings_that_help() -> None:
    found = group_failure(ControllerError(OutOfMemoryError(MESSAGE)), 3)
    assert found.startswith(f"The learner's worker group ran out of memory ({LINE}). Set learner.gradient_")
    assert "learner.micro_batch_tokens" in found


def test_other_failures_name_the_rank_and_its_error() -> None:
    error = WorkerGroupError("", {2: RuntimeError("gloo closed"), 3: RuntimeError("late")})
    expected = "The learner's worker group failed after 3 restarts (rank 2: RuntimeError: gloo closed). Check"
    assert group_failure(error, 3).startswith(expected)
    # Not "Training failed due to controller error:" with nothing after it.
    assert "(rank 0: ValueError: no port)" in group_failure(ControllerError(ValueError("no port")), 1)
