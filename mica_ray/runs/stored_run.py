"""What a run left in its folder, as the reports read it, whether it is finished or not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mica_ray.chat.ledger import Ledger, Tally, total
from mica_ray.config.references import ConfigError
from mica_ray.recordings.dialogue_files import read_dialogues
from mica_ray.recordings.recorded_dialogue import RecordedDialogue, RecordingError
from mica_ray.runs.folder import RunFolder


@dataclass(frozen=True, slots=True, eq=False)
class RunFiles:
    """One run as it lies on the disk."""

    name: str
    """Of its folder."""
    config: Mapping[str, Any]
    """As stored; not validated, so that runs of other versions can be read."""
    metrics: tuple[Mapping[str, Any], ...]
    dialogues: tuple[RecordedDialogue, ...]
    """Of training, in order of step, group, sample."""
    environment: tuple[Mapping[str, Any], ...]
    """One for each start or resumption; empty where none was noted."""
    summary: Mapping[str, Any] | None
    """None while the run is unfinished."""
    costs: Mapping[str, Mapping[str, Tally]]
    """By phase ("train", "evaluate_before", "evaluate_after") and role."""

    @property
    def num_planned(self) -> int | None:
        """Steps that the config asks for, None where it does not say."""
        steps = self.config.get("loop", {}).get("num_steps")
        return steps if isinstance(steps, int) else None

    @property
    def num_steps(self) -> int:
        """Steps done."""
        return len(self.series("weight_version")[0])

    @property
    def total_costs(self) -> Mapping[str, Tally]:
        """The costs of all phases together, by role."""
        roles = {role for tallies in self.costs.values() for role in tallies}
        return {
            role: total({phase: tallies[role] for phase, tallies in self.costs.items() if role in tallies})
            for role in roles
        }

    @property
    def is_contaminated(self) -> bool:
        """Whether official test cases were training scenarios."""
        return bool(self.config.get("contaminated") or (self.summary or {}).get("contaminated"))

    def series(self, metric: str) -> tuple[list[float], list[float]]:
        """Give steps and values of a metric where it was logged; a value that was no number is NaN."""
        rows = [row for row in self.metrics if metric in row]
        return [float(row["step"]) for row in rows], [_number(row[metric]) for row in rows]

    def total(self, metric: str) -> float | None:
        """Give the sum of a metric over the steps, None where it was never logged."""
        values = [value for value in self.series(metric)[1] if math.isfinite(value)]
        return sum(values) if values else None


def read_runs(paths: Sequence[Path]) -> tuple[RunFiles, ...]:
    """Read runs, named apart where their folders have one name.

    Raises:
        ConfigError: one line for a folder that is no run or whose files cannot be read.
    """
    folders = [path.absolute() for path in paths]
    if len(set(folders)) < len(folders):
        raise ConfigError("the same run is named twice; name every run once")
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.parent.name}/{folder.name}" for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return tuple(_read_run(path, name) for path, name in zip(paths, names, strict=True))


def _read_run(path: Path, name: str) -> RunFiles:
    if not (path / "config.json").is_file():
        raise ConfigError(
            f"{path}: no config.json, so no run to report; give a folder that `mica train` named"
        )
    folder = RunFolder.open(path)
    metrics = read_rows(folder.metrics)
    if not metrics:
        raise ConfigError(
            f"{folder.metrics}: holds no step, so there is nothing to report; "
            f"go on with `mica train --resume {path}`"
        )
    return RunFiles(
        name=name,
        config=_read_object(folder.config_file) or {},
        metrics=metrics,
        dialogues=_read_dialogues(folder.dialogues),
        environment=read_rows(folder.environment),
        summary=_read_object(folder.summary),
        costs=_read_costs(folder.costs),
    )


def _read_dialogues(path: Path) -> tuple[RecordedDialogue, ...]:
    try:
        dialogues = read_dialogues(path, is_growing=True)
    except RecordingError as error:
        raise ConfigError(str(error)) from error
    for one in dialogues:
        if None in (one.step, one.group, one.sample):
            raise ConfigError(f"{one.line.place}: a training dialogue must have step, group and sample.")
    return dialogues


def read_rows(path: Path) -> tuple[dict[str, Any], ...]:
    """Read JSON lines; a last line that was cut short is left out, a missing file has no lines.

    Raises:
        ConfigError: the file cannot be read, or another line is no JSON object.
    """
    if not path.exists():
        return ()
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(
                f"{path}, line {number}: is no JSON ({error}); mend or drop the line"
            ) from error
        if not isinstance(row, dict):
            raise ConfigError(f"{path}, line {number}: must be a JSON object; got a {type(row).__name__}")
        rows.append(row)
    return tuple(rows)


def _read_object(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: must be a JSON object; got a {type(found).__name__}")
    return found


def _read_costs(path: Path) -> dict[str, Mapping[str, Tally]]:
    try:
        ledger = Ledger(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: holds a line that is no cost ({error}); mend or drop it") from error
    by_phase = {phase: ledger.totals([phase]) for phase in ledger.phases}
    return {phase: tallies for phase, tallies in by_phase.items() if tallies}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
