"""What a learner's folder says of itself in `learner.json`, so that a foreign one is refused in words."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mica_ray.training.learner import LearnerError

_FILE = "learner.json"


@dataclass(frozen=True, slots=True)
class LearnerState:
    """The counters of a saved learner and what must agree before it is restored."""

    kind: str
    """"local", or "deepspeed zero S, W workers": the optimiser's file form."""
    version: int
    """Update calls made."""
    updates: int
    """Optimiser steps made: where the schedule stands."""
    model: str
    """`policy_folder.fingerprint` of the parameters."""
    dtype: str

    def write(self, directory: Path) -> None:
        """Write `learner.json` into the folder."""
        (directory / _FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, directory: Path) -> LearnerState:
        """Read `learner.json`.

        Raises:
            LearnerError: there is none, or it is not one of ours.
        """
        try:
            return cls(**json.loads((directory / _FILE).read_text()))
        except FileNotFoundError as error:
            raise LearnerError(
                f"{directory} holds no learner ({_FILE} is missing); give a checkpoint of a run"
            ) from error
        except (ValueError, TypeError) as error:
            raise LearnerError(
                f"{directory / _FILE} is unreadable ({error}); give another checkpoint"
            ) from error

    def check(self, directory: Path, *, kind: str, model: str, dtype: str) -> None:
        """Refuse to continue from something else.

        Raises:
            LearnerError: model, kind of learner or dtype differ.
        """
        if self.model != model:
            raise LearnerError(
                f"{directory} is a checkpoint of another model (parameters {self.model}, here {model}); "
                "resume with the policy it was trained from"
            )
        if self.kind != kind:
            raise LearnerError(
                f"{directory} was written by learner {self.kind!r}, this run has {kind!r}; use the same"
            )
        if self.dtype != dtype:
            raise LearnerError(
                f"{directory} was trained in {self.dtype}, this run asks for {dtype}; resume with the same"
            )
