"""Protocol of a learner: local_learner.py in this process, ray_learner.py in a group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mica_ray.types import PolicyWeights, TokenBatch, UpdateReport


class LearnerError(Exception):
    """A learner cannot start, update or restore. The message names the cause and the remedy."""


class Learner(Protocol):
    """Trains the policy's weights on token batches."""

    def update(self, batch: TokenBatch) -> UpdateReport:
        """Make every optimizer step of a batch and raise the version by one. Deterministic."""
        ...

    def weights(self) -> PolicyWeights:
        """Return the current weights for the engines."""
        ...

    def save(self, directory: Path, *, copied: Callable[[], object] | None = None) -> None:
        """Write weights, optimizer and schedule so that `restore` continues bit for bit.

        Args:
            directory: exists, or is created.
            copied: called once the state is copied, if it is: `update` may then run in another thread.
        """
        ...

    def committed(self, directory: Path) -> None:
        """Note that the last save is complete and now has this path; it stays until the next one."""
        ...

    def restore(self, directory: Path) -> None:
        """Continue from what `save` wrote.

        Raises:
            LearnerError: the folder has another model.
        """
        ...

    def close(self) -> None:
        """Release the learner's resources."""
        ...
