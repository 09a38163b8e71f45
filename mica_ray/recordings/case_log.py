"""The finished cases of an evaluation as JSON lines, so that a second call plays only the missing ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mica_ray.files import (
    JsonFileError,
    append_line,
    json_line,
    keep_settings,
    mend_lines,
    read_json_lines,
    write_json,
)
from mica_ray.recordings.transcript import transcript
from mica_ray.types import Scenario, Stop, Trajectory


class CaseLogError(ValueError):
    """A folder that cannot store this evaluation; the message names the file and the remedy."""


class CaseLog:
    """The folder of one evaluation. Each dialogue is on the disk before the next one is accepted.

    dialogues.jsonl contains the dialogues that did not fail (transcript.py, and "model"); failed.jsonl those
    of the last call that failed, which the next call plays again; settings.json how they were played.

    Args:
        folder: created if missing.
        model: the policy's name in every line.
        settings: plain JSON values that determine a dialogue; a call with other settings is refused.

    Raises:
        CaseLogError: the folder contains another evaluation, or cannot be written or read.
    """

    def __init__(self, folder: Path, *, model: str, settings: Mapping[str, object]) -> None:
        self.folder, self._model = folder, model
        self.dialogues = folder / "dialogues.jsonl"
        self.failed: list[Trajectory] = []
        """Dialogues of this call that failed."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._done = _finished_cases(self.dialogues)
            if self._done:
                _check_settings(folder / "settings.json", settings)
            else:  # Nothing could be mixed up with the dialogues played now.
                write_json(folder / "settings.json", settings)
            (folder / "failed.jsonl").unlink(missing_ok=True)
        except OSError as error:
            raise CaseLogError(
                f"{folder} cannot be used ({error.strerror}). Choose another folder with --out DIR."
            ) from error

    def missing(self, scenarios: Sequence[Scenario], samples: int) -> tuple[Scenario, ...]:
        """Return the scenarios of which not every sample is finished."""
        return tuple(
            scenario
            for scenario in scenarios
            if any((scenario.id, sample) not in self._done for sample in range(samples))
        )

    @property
    def endings(self) -> Mapping[tuple[str, int], str]:
        """Why each finished case ended (types.Stop), by scenario id and sample."""
        return self._done

    def record(self, trajectory: Trajectory) -> None:
        """Write one dialogue to the disk; a case that is already finished is ignored."""
        case = (trajectory.scenario.id, trajectory.sample)
        if case in self._done:
            return
        if trajectory.stop is Stop.FAILED:
            self.failed.append(trajectory)
            self._append(self.folder / "failed.jsonl", trajectory)
            return
        self._append(self.dialogues, trajectory)
        self._done[case] = str(trajectory.stop)

    def num_done(self, scenarios: Sequence[Scenario]) -> int:
        """Count the finished dialogues of these scenarios."""
        wanted = {scenario.id for scenario in scenarios}
        return sum(scenario in wanted for scenario, _ in self._done)

    def _append(self, path: Path, trajectory: Trajectory) -> None:
        row = {"model": self._model, **transcript(trajectory)}
        del row["group"]  # An index into the scenarios of this call, meaningless in the next.
        append_line(path, json_line(row), synced=True)


def _check_settings(path: Path, settings: Mapping[str, object]) -> None:
    try:
        change = keep_settings(path, settings)
    except JsonFileError as error:
        raise CaseLogError(f"{error} Choose another folder with --out DIR.") from error
    if change is not None:
        key, was, now = change
        raise CaseLogError(
            f"{path}: {key} was {was!r} and is now {now!r}. Choose another folder with --out DIR."
        )


def _finished_cases(path: Path) -> dict[tuple[str, int], str]:
    """Return the ending of every finished case; an unfinished last line is deleted from the file."""
    if not path.exists():
        return {}
    mend_lines(path)
    done: dict[tuple[str, int], str] = {}
    try:
        for line in read_json_lines(path):
            if not {"scenario", "sample"} <= line.fields.keys():
                raise JsonFileError(f"{line.place}: not a finished case; scenario or sample is missing.")
            case = (str(line.fields["scenario"]), int(line.fields["sample"]))
            done[case] = str(line.fields.get("stop", ""))
    except (ValueError, TypeError) as error:
        raise CaseLogError(f"{error} Delete the line, or use another --out DIR.") from error
    return done
