"""What the user sees of a run: the stage and the finished dialogues. The bars are in cli/progress.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mica_ray.types import Trajectory


class Progress(Protocol):
    """Shows the user the current stage of the run."""

    def stage(self, name: str, *, step: int, num_steps: int) -> None:
        """Show that a stage of a step begins."""
        ...

    def dialogue_ended(self, trajectory: Trajectory) -> None:
        """Count one more finished dialogue of the step."""
        ...


@dataclass(frozen=True, slots=True)
class SilentProgress:
    """`Progress` that shows nothing."""

    def stage(self, name: str, *, step: int, num_steps: int) -> None:
        """Do nothing."""

    def dialogue_ended(self, trajectory: Trajectory) -> None:
        """Do nothing."""
