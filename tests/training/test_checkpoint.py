"""Checkpoints: complete or absent, the newest is restored, those of other runs are refused."""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mica_ray.training.checkpoint import (
    CheckpointError,
    Checkpoints,
    CheckpointWriter,
    RandomState,
    RunState,
)
from mica_ray.training.learner import LearnerError
from mica_ray.types import PolicyWeights, TokenBatch, UpdateReport
from tests.tiny_policy import random_batch


class CountingLearner:
    """A learner whose whole state is one number."""

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def update(self, batch: TokenBatch) -> UpdateReport:
        self.count += 1
        return UpdateReport(self.count, {})

    def weights(self) -> PolicyWeights:
        return PolicyWeights(self.count, None)

    def save(self, directory: Path, *, copied: Callable[[], object] | None = None) -> None:
        (directory / "count").write_text(str(self.count))

    def committed(self, directory: Path) -> None:
        self.committed_to = directory

    def restore(self, directory: Path) -> None:
        self.count = int((directory / "count").read_text())

    def close(self) -> None: ...


class FullDiskLearner(CountingLearner):
    """A learner that fills the disk half-way through its second file."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def save(self, directory: Path, *, copied: Callable[[], object] | None = None) -> None:
        super().save(directory)
        raise self.error


class CopyingLearner(CountingLearner):
    """A learner that copies its state, and does not write before the next update has begun."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.begun = threading.Event()

    def update(self, batch: TokenBatch) -> UpdateReport:
        self.begun.set()
        return super().update(batch)

    def save(self, directory: Path, *, copied: Callable[[], object] | None = None) -> None:
        count = str(self.count)
        assert copied is not None
        copied()
        assert self.begun.wait(timeout=20)
        (directory / "count").write_text(count)


class OtherModelLearner(CountingLearner):
    """A learner whose folder has another model."""

    def restore(self, directory: Path) -> None:
        raise LearnerError(f"{directory} is a checkpoint of another model")


def state_at(step: int) -> RunState:
    return RunState(
        step=step, version=step, scenario_order="order", config_digest="config", random=RandomState.capture()
    )


def test_newest_checkpoint_is_the_one_that_continues(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (2, 4, 10):
        checkpoints.save(state_at(step), CountingLearner(step))
    newest = CountingLearner(10)
    checkpoints.save(state_at(10), newest)  # repeated, as after a resume from an earlier checkpoint
    assert (newest.committed_to / "count").read_text() == "10"
    learner = CountingLearner()
    assert Checkpoints(tmp_path).restore(learner, scenario_order="order").step == 10
    assert learner.count == 10
    assert [path.name for path in checkpoints.complete()] == ["step-000004", "step-000010"]


def test_half_written_checkpoint_is_not_seen_and_cleared_away(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state_at(2), CountingLearner(2))
    (tmp_path / ".partial-000004-77" / "learner").mkdir(parents=True)
    assert Checkpoints(tmp_path).latest() == tmp_path / "step-000002"
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError(
            "[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/3"
        ),
    ],
)
def test_full_disk_is_named_and_leaves_the_earlier_checkpoint(tmp_path: Path, error: Exception) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state_at(2), CountingLearner(2))
    with pytest.raises(
        CheckpointError, match=r"disk is full: .*step-000004 was not written\. Free some space"
    ) as caught:
        checkpoints.save(state_at(4), FullDiskLearner(error))
    assert "\n" not in str(caught.value)
    learner = CountingLearner()
    assert checkpoints.restore(learner, scenario_order="order").step == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


async def test_checkpoint_is_written_while_the_run_goes_on(tmp_path: Path) -> None:
    learner = CopyingLearner(2)
    checkpoints = Checkpoints(tmp_path)
    writer = CheckpointWriter(checkpoints, learner)
    await writer.start(state_at(2))
    await writer.check()
    assert checkpoints.latest() is None
    learner.update(random_batch(0))
    await writer.finish()
    assert learner.count == 3
    assert (tmp_path / "step-000002" / "learner" / "count").read_text() == "2"


async def test_failed_checkpoint_raises_its_error_once(tmp_path: Path) -> None:
    writer = CheckpointWriter(Checkpoints(tmp_path), FullDiskLearner(OSError(errno.ENOSPC, "No space")))
    with pytest.raises(CheckpointError, match="disk is full"):
        await writer.start(state_at(2))
    await writer.finish()  # Its error was raised; nothing is being written.


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(state_at(2), CountingLearner(2))
    with pytest.raises(CheckpointError, match="another model"):
        Checkpoints(tmp_path).restore(OtherModelLearner(), scenario_order="order")


def test_checkpoint_of_other_scenarios_is_refused(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(state_at(2), CountingLearner(2))
    with pytest.raises(CheckpointError, match="with other scenarios"):
        Checkpoints(tmp_path).restore(CountingLearner(), scenario_order="elsewhere")


def test_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        Checkpoints(tmp_path).restore(CountingLearner(), scenario_order="order")


def test_random_generators_continue_where_they_were(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(state_at(1), CountingLearner())
    drawn = (random.random(), np.random.rand(), torch.rand(1).item())
    Checkpoints(tmp_path).restore(CountingLearner(), scenario_order="order")
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == drawn
