"""What a learner looks like: local_learner.py is one in this process, ray_learner.py one in a group."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from mica_ray.types import PolicyWeights, TokenBatch, UpdateReport


class LearnerError(Exception):
    """A learner cannot start, update or restore. The message names the thing and the remedy."""


class Learner(Protocol):
    """Applies advantages to the policy's weights."""

    def update(self, batch: TokenBatch) -> UpdateReport:
        """Make every optimiser step this batch asks for.

        Deterministic; a step already done is not done twice.
        """
        ...

    def weights(self) -> PolicyWeights:
        """Give the current weights for the engines."""
        ...

    def save(self, directory: Path) -> None:
        """Write weights, optimiser and schedule so that `restore` continues bit for bit."""
        ...

    def restore(self, directory: Path) -> None:
        """Continue from what `save` wrote.

        Raises:
            LearnerError: the folder holds another model.
        """
        ...

    def close(self) -> None:
        """Free what the learner holds."""
        ...
