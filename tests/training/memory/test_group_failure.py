"""The message of a learner whose worker group ended names the cause, and the settings if it was memory."""

from __future__ import annotations

import torch
from ray.exceptions import OutOfMemoryError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from mica_ray.training.learner import LearnerError
from mica_ray.training.memory.group_failure import group_failure, worker_failure
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


def test_a_worker_whose_device_is_full_is_named_with_the_settings_that_help() -> None:
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore text")
    found = worker_failure(full, 3)
    assert found.startswith(
        "Learner worker 3 ran out of memory (CUDA out of memory. Tried to allocate 2.00 GiB."
    )
    assert "Set learner.gradient_checkpointing=true" in found
    assert worker_failure(LearnerError("No model. Name one."), 3) == "No model. Name one."
    assert worker_failure(KeyError("w"), 1) == "Learner worker 1 failed: KeyError: 'w'"
