"""Checkpoints of a run: written completely or not at all, checked before a resume.

DIRECTORY/step-000012/{run_state.json, learner/...}. The folder gets this name last, so it is complete.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mica_ray.checks import at_least
from mica_ray.files import JsonFileError, read_json_object
from mica_ray.training.learner import Learner, LearnerError

_PREFIX = "step-"
_PARTIAL = ".partial-"
_STATE_FILE = "run_state.json"
# Error texts for a full disk, of the operating system, torch's zip writer and the safetensors writer.
_FULL_DISK_WORDS = ("No space left on device", "PytorchStreamWriter failed", "file write failed")


class CheckpointError(Exception):
    """A checkpoint cannot be written or restored. The message names the path and the remedy."""


@dataclass(frozen=True, slots=True)
class RandomState:
    """The state of every global random generator of the process, in JSON types."""

    python: list[object]
    numpy: list[object]
    torch: str
    """Hexadecimal."""

    @classmethod
    def capture(cls) -> RandomState:
        """Read the state of the generators."""
        import torch

        version, keys, gauss = random.getstate()
        name, words, position, has_gauss, cached = np.random.get_state(legacy=True)
        return cls(
            python=[version, list(keys), gauss],
            numpy=[name, np.asarray(words).tolist(), int(position), int(has_gauss), float(cached)],
            torch=torch.get_rng_state().numpy().tobytes().hex(),
        )

    def restore(self) -> None:
        """Set the generators to this state."""
        import torch

        version, keys, gauss = self.python
        random.setstate((version, tuple(keys), gauss))  # type: ignore[arg-type]
        name, words, position, has_gauss, cached = self.numpy
        np.random.set_state((name, np.asarray(words, dtype=np.uint32), position, has_gauss, cached))  # type: ignore[arg-type]
        torch.set_rng_state(torch.frombuffer(bytearray.fromhex(self.torch), dtype=torch.uint8))


@dataclass(frozen=True, slots=True)
class RunState:
    """The progress of a run, apart from what its learner saves."""

    step: int
    """The next step; steps 0..step-1 are done."""
    version: int
    """Version of the weights."""
    scenario_order: str
    """Digest of seed, scenario ids and scenarios per step, which determine the order of scenarios."""
    config_digest: str
    """Digest of the resolved config, for information: a run may resume with a changed config."""
    random: RandomState


class Checkpoints:
    """The checkpoint folders of one run; only the newest are kept."""

    def __init__(
        self, directory: Path, *, keep: int = 2, policy_files: Mapping[str, str] | None = None
    ) -> None:
        """Open the folder and remove partial checkpoints of a killed process.

        Args:
            directory: created when missing, with its parents.
            keep: number of complete checkpoints to keep.
            policy_files: texts by name, written into the policy folder of each checkpoint.

        Raises:
            ValueError: keep < 1.
        """
        at_least(1, keep=keep)
        self.directory, self._keep = directory, keep
        self._policy_files = dict(policy_files or {})
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.glob(f"{_PARTIAL}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def save(self, state: RunState, learner: Learner, *, copied: Callable[[], object] | None = None) -> Path:
        """Write a checkpoint under a temporary name, flush and rename it, then delete the oldest.

        Args:
            state: progress of the run.
            learner: writes its own part.
            copied: called once the learner has copied its state, if it does.

        Raises:
            CheckpointError: the disk is full or not writable. Earlier checkpoints are unchanged.
        """
        final = self.directory / f"{_PREFIX}{state.step:06d}"
        partial = self.directory / f"{_PARTIAL}{state.step:06d}-{os.getpid()}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            (partial / "learner").mkdir(parents=True)
            learner.save(partial / "learner", copied=copied)
            for name, text in self._policy_files.items():
                (partial / "learner" / "policy" / name).write_text(text, encoding="utf-8")
            (partial / _STATE_FILE).write_text(json.dumps(asdict(state)) + "\n")
            _flush(partial)
            if final.exists():  # The step was repeated after a resume from an earlier checkpoint.
                shutil.rmtree(final)
            partial.rename(final)
            _flush_folder(self.directory)
            learner.committed(final / "learner")
        except Exception as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise _explained(error, final) from error
        for old in self.complete()[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)
        return final

    def complete(self) -> Sequence[Path]:
        """Return the complete checkpoints, oldest first."""
        return sorted(path for path in self.directory.glob(f"{_PREFIX}*") if (path / _STATE_FILE).is_file())

    def latest(self) -> Path | None:
        """Return the newest complete checkpoint; None without one."""
        found = self.complete()
        return found[-1] if found else None

    def restore(self, learner: Learner, *, scenario_order: str) -> RunState:
        """Continue from the newest complete checkpoint: learner, random generators and counters.

        Args:
            learner: receives the weights, optimizer and schedule.
            scenario_order: digest of this run's order, which must equal the saved one.

        Raises:
            CheckpointError: there is none, it is unreadable, or its model or scenarios differ.
        """
        path = self.latest()
        if path is None:
            raise CheckpointError(
                f"{self.directory} has no complete checkpoint. Start the run without --resume."
            )
        state = read_run_state(path)
        if state.scenario_order != scenario_order:
            raise CheckpointError(
                f"{path} was trained with other scenarios, another seed or another scenarios_per_step. "
                "Resume with the config stored in the run folder."
            )
        try:
            learner.restore(path / "learner")
        except LearnerError as error:
            raise CheckpointError(str(error)) from error
        state.random.restore()
        return state


class CheckpointWriter:
    """Writes the checkpoints of a run, one at a time, while the run goes on.

    As a context manager it finishes the last one; then an error of the run matters more than its own.
    """

    def __init__(self, checkpoints: Checkpoints, learner: Learner) -> None:
        self._checkpoints, self._learner = checkpoints, learner
        self._task: asyncio.Task[Path] | None = None

    async def __aenter__(self) -> CheckpointWriter:
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        with suppress(*(() if error is None else (CheckpointError, LearnerError))):
            await self.finish()

    async def start(self, state: RunState) -> None:
        """Finish the checkpoint before, start this one, and wait until the state is copied or written.

        Raises:
            CheckpointError: one of the two cannot be written.
            LearnerError: the learner ended.
        """
        await self.finish()
        copied, loop = asyncio.Event(), asyncio.get_running_loop()
        self._task = asyncio.create_task(
            asyncio.to_thread(
                self._checkpoints.save,
                state,
                self._learner,
                copied=lambda: loop.call_soon_threadsafe(copied.set),
            )
        )
        waiting = asyncio.create_task(copied.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        await self.check()

    async def check(self) -> None:
        """Raise the error of a checkpoint that failed; do not wait for one that is being written."""
        if self._task is not None and self._task.done():
            await self.finish()

    async def finish(self) -> None:
        """Wait until nothing is being written.

        Raises:
            CheckpointError: the last checkpoint cannot be written.
            LearnerError: the learner ended.
        """
        task, self._task = self._task, None
        if task is not None:
            await task


def read_run_state(checkpoint: Path) -> RunState:
    """Read the run state of one checkpoint folder.

    Raises:
        CheckpointError: it is missing or unreadable.
    """
    try:
        values = read_json_object(checkpoint / _STATE_FILE)
        return RunState(**{**values, "random": RandomState(**values["random"])})
    except (JsonFileError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{checkpoint / _STATE_FILE} is unreadable ({str(error).rstrip('.')}). Delete {checkpoint.name} "
            "and rerun with --resume."
        ) from error


def _explained(error: Exception, path: Path) -> Exception:
    """Return a CheckpointError for a full or unwritable disk; return any other error unchanged."""
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if is_full or any(words in str(error) for words in _FULL_DISK_WORDS):
        return CheckpointError(
            f"The disk is full: {path} was not written. Free some space or lower loop.keep_checkpoints, then "
            "rerun with --resume; earlier checkpoints are unchanged."
        )
    if isinstance(error, OSError):
        return CheckpointError(
            f"{path} was not written ({error.strerror or error}). Check the folder's permissions and disk, "
            "then rerun with --resume; earlier checkpoints are unchanged."
        )
    return error


def _flush(folder: Path) -> None:
    """Flush every file below a folder to the disk, so that the rename comes after them."""
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
