"""The finished cases of an evaluation as JSON lines, so that a second call plays only what is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mica_ray.files import append_line, mend_lines, write_json
from mica_ray.recordings.transcript import transcript
from mica_ray.types import Scenario, Stop, Trajectory


class CaseLogError(ValueError):
    """A folder that cannot take this evaluation; the message names the file and the remedy."""


class CaseLog:
    """The folder of one evaluation. Consumes dialogues as they end; each is on the disk before the next.

    dialogues.jsonl holds the dialogues that say something about the policy (recordings/transcript.py, and
    "model"); failed.jsonl those of the last call that failed and are played again by the next; settings.json
    what they were played with.

    Args:
        folder: made when missing.
        model: the policy's name in every line.
        settings: plain JSON values that decide what a dialogue comes to; a call with others is refused.

    Raises:
        CaseLogError: the folder holds another evaluation, or cannot be written or read.
    """

    def __init__(self, folder: Path, *, model: str, settings: Mapping[str, object]) -> None:
        self.folder, self._model = folder, model
        self.dialogues = folder / "dialogues.jsonl"
        self.failed: list[Trajectory] = []
        """Of this call."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._done = _finished(self.dialogues)
            if self._done:
                _check_settings(folder / "settings.json", settings)
            else:  # Nothing would be mixed with what is played now.
                write_json(folder / "settings.json", settings)
            (folder / "failed.jsonl").unlink(missing_ok=True)
        except OSError as error:
            raise CaseLogError(
                f"{folder}: cannot be used ({error.strerror}); name another by --out DIR"
            ) from error

    def missing(self, scenarios: Sequence[Scenario], samples: int) -> tuple[Scenario, ...]:
        """Give the scenarios of which not every sample is finished."""
        return tuple(
            scenario
            for scenario in scenarios
            if any((scenario.id, sample) not in self._done for sample in range(samples))
        )

    def record(self, trajectory: Trajectory) -> None:
        """Write one dialogue down; one that is finished already is passed over."""
        case = (trajectory.scenario.id, trajectory.sample)
        if case in self._done:
            return
        if trajectory.stop is Stop.FAILED:
            self.failed.append(trajectory)
            self._append(self.folder / "failed.jsonl", trajectory)
            return
        self._append(self.dialogues, trajectory)
        self._done.add(case)

    def num_done(self, scenarios: Sequence[Scenario]) -> int:
        """Count the finished dialogues of these scenarios."""
        wanted = {scenario.id for scenario in scenarios}
        return sum(scenario in wanted for scenario, _ in self._done)

    def _append(self, path: Path, trajectory: Trajectory) -> None:
        row = {"model": self._model, **transcript(trajectory)}
        del row["group"]  # The place among those of this call, which is none of the dialogue's business.
        # Ids and texts of models may hold half a surrogate pair, which UTF-8 has no form for.
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace")
        append_line(path, line, synced=True)


def _check_settings(path: Path, settings: Mapping[str, object]) -> None:
    wanted = json.loads(json.dumps(settings))
    if not path.exists():
        write_json(path, settings)
        return
    try:
        held = json.loads(path.read_text())
    except ValueError as error:
        raise CaseLogError(f"{path}: not JSON ({error}); name another folder by --out DIR") from error
    for key in sorted({*wanted, *held}):
        if held.get(key) != wanted.get(key):
            raise CaseLogError(
                f"{path}: {key} was {held.get(key)!r} and is now {wanted.get(key)!r}; name another folder by"
                " --out DIR"
            )


def _finished(path: Path) -> set[tuple[str, int]]:
    """Read which cases are finished; a line that a crash left unfinished is cut off."""
    if not path.exists():
        return set()
    mend_lines(path)
    done: set[tuple[str, int]] = set()
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
            done.add((str(row["scenario"]), int(row["sample"])))
        except (ValueError, KeyError, TypeError) as error:
            raise CaseLogError(
                f"{path}, line {number}: is no finished case ({error!r}); drop it or use another --out DIR"
            ) from error
    return done
