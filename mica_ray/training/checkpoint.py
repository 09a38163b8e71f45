"""The run state on disk: written whole or not at all, found again, refused when it belongs to another run.

DIRECTORY/step-000012/{run_state.json, learner/...}; a folder of that name is complete: it got its name last.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mica_ray.training.learner import Learner, LearnerError

_PREFIX = "step-"
_PARTIAL = ".partial-"
_STATE_FILE = "run_state.json"
# How the libraries below word a full disk: an errno, torch's zip writer, the safetensors writer.
_FULL_DISK_WORDS = ("No space left on device", "PytorchStreamWriter failed", "file write failed")


class CheckpointError(Exception):
    """A checkpoint cannot be written or continued from. The message names the path and the remedy."""


@dataclass(frozen=True, slots=True)
class RandomState:
    """Every global random generator of the process, in JSON's own types."""

    python: list[object]
    numpy: list[object]
    torch: str
    """Hexadecimal."""

    @classmethod
    def capture(cls) -> RandomState:
        """Read the generators."""
        import torch

        version, keys, gauss = random.getstate()
        name, words, position, has_gauss, cached = np.random.get_state(legacy=True)
        return cls(
            python=[version, list(keys), gauss],
            numpy=[name, np.asarray(words).tolist(), int(position), int(has_gauss), float(cached)],
            torch=torch.get_rng_state().numpy().tobytes().hex(),
        )

    def put_back(self) -> None:
        """Set the generators to what `capture` read."""
        import torch

        version, keys, gauss = self.python
        random.setstate((version, tuple(keys), gauss))  # type: ignore[arg-type]
        name, words, position, has_gauss, cached = self.numpy
        np.random.set_state((name, np.asarray(words, dtype=np.uint32), position, has_gauss, cached))  # type: ignore[arg-type]
        torch.set_rng_state(torch.frombuffer(bytearray.fromhex(self.torch), dtype=torch.uint8))


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands, beside what its learner saves."""

    step: int
    """The next step to do; steps 0..step-1 are done."""
    version: int
    """Version of the weights."""
    scenario_order: str
    """Digest of seed, scenario ids and scenarios per step: the order is a pure function of them and the
    step."""
    config_digest: str
    """Digest of the resolved config, for the record; a changed config may continue a run."""
    random: RandomState


class Checkpoints:
    """The checkpoints of one run.

    Consumes a learner and a run state, produces folders; keeps the newest few.
    """

    def __init__(self, directory: Path, *, keep: int = 2) -> None:
        """Open the folder and clear away what a killed process left half-written.

        Args:
            directory: made when missing, together with its parents.
            keep: complete checkpoints to keep.

        Raises:
            ValueError: keep < 1.
        """
        if keep < 1:
            raise ValueError(f"keep must be >= 1; got {keep}")
        self.directory, self._keep = directory, keep
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.glob(f"{_PARTIAL}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def save(self, state: RunState, learner: Learner) -> Path:
        """Write a checkpoint under another name, flush it to the disk, rename it, then drop the oldest.

        Raises:
            CheckpointError: the disk is full or not writable; earlier checkpoints are untouched.
        """
        final = self.directory / f"{_PREFIX}{state.step:06d}"
        partial = self.directory / f"{_PARTIAL}{state.step:06d}-{os.getpid()}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            (partial / "learner").mkdir(parents=True)
            learner.save(partial / "learner")
            (partial / _STATE_FILE).write_text(json.dumps(asdict(state)) + "\n")
            _flush(partial)
            if final.exists():  # The same step again, after a resume from an earlier one.
                shutil.rmtree(final)
            partial.rename(final)
            _flush_folder(self.directory)
        except Exception as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise _explained(error, final) from error
        for old in self.complete()[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)
        return final

    def complete(self) -> Sequence[Path]:
        """Give the complete checkpoints, oldest first."""
        return sorted(path for path in self.directory.glob(f"{_PREFIX}*") if (path / _STATE_FILE).is_file())

    def latest(self) -> Path | None:
        """Give the newest complete checkpoint, None when there is none."""
        found = self.complete()
        return found[-1] if found else None

    def restore(self, learner: Learner, *, scenario_order: str) -> RunState:
        """Continue from the newest complete checkpoint: learner, random generators and counters.

        Args:
            learner: takes the weights, optimiser and schedule.
            scenario_order: digest of this run's order, which must be the saved one.

        Raises:
            CheckpointError: there is none, it is unreadable, or it has another model or other scenarios.
        """
        path = self.latest()
        if path is None:
            raise CheckpointError(
                f"{self.directory} holds no complete checkpoint; start the run without --resume"
            )
        state = read_run_state(path)
        if state.scenario_order != scenario_order:
            raise CheckpointError(
                f"{path} was trained on other scenarios, or with another seed or scenarios_per_step; "
                "resume with the config stored beside it"
            )
        try:
            learner.restore(path / "learner")
        except LearnerError as error:
            raise CheckpointError(str(error)) from error
        state.random.put_back()
        return state


def read_run_state(checkpoint: Path) -> RunState:
    """Read the run state of one checkpoint folder.

    Raises:
        CheckpointError: it is missing or unreadable.
    """
    try:
        values = json.loads((checkpoint / _STATE_FILE).read_text())
        return RunState(**{**values, "random": RandomState(**values["random"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{checkpoint / _STATE_FILE} is unreadable ({error}); remove that folder and resume"
        ) from error


def _explained(error: Exception, path: Path) -> Exception:
    """Give a full or closed disk its one line; any other error stays what it is."""
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if is_full or any(words in str(error) for words in _FULL_DISK_WORDS):
        return CheckpointError(
            f"the disk is full: {path} was not written; free some space or keep fewer checkpoints, "
            "then --resume (earlier checkpoints are untouched)"
        )
    if isinstance(error, OSError):
        return CheckpointError(
            f"{path} was not written ({error.strerror or error}); earlier checkpoints are untouched"
        )
    return error


def _flush(folder: Path) -> None:
    """Push every file below a folder to the disk, so that the rename cannot overtake them."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            _flush_folder(path)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
