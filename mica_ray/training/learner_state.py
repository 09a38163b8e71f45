"""The counters and identity of a saved learner in `learner.json`, checked before a restore."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from mica_ray.files import JsonFileError, read_json_object, write_json
from mica_ray.training.learner import LearnerError

_FILE = "learner.json"


@dataclass(frozen=True, slots=True)
class LearnerState:
    """The counters of a saved learner, and what must match before it is restored."""

    kind: str
    """"local" or "worker group": which learner can read the optimizer state."""
    version: int
    """Update calls made."""
    updates: int
    """Optimizer steps made; the position in the learning rate schedule."""
    model: str
    """`policy_folder.fingerprint` of the parameters."""
    dtype: str

    def write(self, directory: Path) -> None:
        """Write `learner.json` into the folder."""
        write_json(directory / _FILE, asdict(self))

    @classmethod
    def read(cls, directory: Path) -> LearnerState:
        """Read `learner.json`.

        Raises:
            LearnerError: the file is missing, or was not written by a learner.
        """
        path = directory / _FILE
        if not path.is_file():
            raise LearnerError(
                f"{directory} is not a learner's folder: {_FILE} is missing. Use a checkpoint of a run."
            )
        try:
            return cls(**read_json_object(path))
        except (JsonFileError, TypeError) as error:
            raise LearnerError(
                f"{path} is not a learner's state ({str(error).rstrip('.')}). Use another checkpoint."
            ) from error

    def check(self, directory: Path, *, kind: str, model: str, dtype: str) -> None:
        """Check that this learner can continue from the folder.

        Raises:
            LearnerError: model, kind of learner or dtype differ.
        """
        if self.model != model:
            raise LearnerError(
                f"{directory} is a checkpoint of another model (parameters {self.model}, here {model}). "
                "Resume with the policy it was trained from, and the same learner.lora."
            )
        if self.kind != kind:
            raise LearnerError(
                f"{directory} was written by learner {self.kind!r}, this run uses {kind!r}. Resume with the "
                "same learner."
            )
        if self.dtype != dtype:
            raise LearnerError(
                f"{directory} was trained in {self.dtype}, this run uses {dtype}. Resume with the same dtype."
            )
