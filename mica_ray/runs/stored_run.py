"""Read the files of a run folder for reports, whether the run is finished or not.

frames.py lays the same files out as DataFrames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mica_ray.chat.ledger import Ledger, Tally, total
from mica_ray.config.references import ConfigError
from mica_ray.files import JsonFileError, read_json_lines
from mica_ray.recordings.dialogue_files import read_dialogues
from mica_ray.recordings.recorded_dialogue import RecordedDialogue, RecordingError
from mica_ray.runs.folder import RunFolder, read_object
from mica_ray.valid_text import valid_text


@dataclass(frozen=True, slots=True, eq=False)
class RunFiles:
    """The contents of one run folder."""

    name: str
    """Name of the run folder."""
    config: Mapping[str, Any]
    """As stored. Not validated, so that runs of other versions can be read."""
    metrics: tuple[Mapping[str, Any], ...]
    dialogues: tuple[RecordedDialogue, ...]
    """Training dialogues, in order of step, group, sample."""
    environment: tuple[Mapping[str, Any], ...]
    """One entry per start or resumption; empty if the file is missing."""
    summary: Mapping[str, Any] | None
    """None while the run is unfinished."""
    costs: Mapping[str, Mapping[str, Tally]]
    """Costs by role, by phase: "train", "audit", "evaluate_before", "evaluate_during" or
    "evaluate_after"."""

    @property
    def num_planned(self) -> int | None:
        """Steps of the whole run; None if the config does not say."""
        steps = self.config.get("loop", {}).get("num_steps")
        return steps if isinstance(steps, int) else None

    @property
    def num_steps(self) -> int:
        """Finished steps."""
        return len(self.series("weight_version")[0])

    @property
    def total_costs(self) -> Mapping[str, Tally]:
        """Costs of all phases together, by role."""
        roles = {role for tallies in self.costs.values() for role in tallies}
        return {
            role: total({phase: tallies[role] for phase, tallies in self.costs.items() if role in tallies})
            for role in roles
        }

    @property
    def is_contaminated(self) -> bool:
        """Whether official EMPA test cases were training scenarios."""
        return bool(self.config.get("contaminated") or (self.summary or {}).get("contaminated"))

    def series(self, metric: str) -> tuple[list[float], list[float]]:
        """Return steps and values of a metric where it was logged; NaN if not finite."""
        rows = [row for row in self.metrics if metric in row]
        return [float(row["step"]) for row in rows], [_number(row[metric]) for row in rows]

    def total(self, metric: str) -> float | None:
        """Return the sum of a metric over all steps; None if it was never logged."""
        values = [value for value in self.series(metric)[1] if math.isfinite(value)]
        return sum(values) if values else None


def read_runs(paths: Sequence[Path]) -> tuple[RunFiles, ...]:
    """Read runs; folders of the same name are named with their parent, or by the whole path.

    Raises:
        ConfigError: a folder contains no run, or a file cannot be read.
    """
    folders = [path.absolute() for path in paths]
    if len(set(folders)) < len(folders):
        raise ConfigError("The same run folder is listed twice. List every run once.")
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.parent.name}/{folder.name}" for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return tuple(_read_run(path, valid_text(name)) for path, name in zip(paths, names, strict=True))


def _read_run(path: Path, name: str) -> RunFiles:
    if not (path / "config.json").is_file():
        raise ConfigError(
            f"{path} has no config.json, so it is no run folder. Use a folder that `mica train` printed."
        )
    folder = RunFolder.open(path)
    metrics = read_rows(folder.metrics)
    if not metrics:
        raise ConfigError(
            f"{folder.metrics} contains no step yet. Continue the run with `mica train --resume {path}`."
        )
    return RunFiles(
        name=name,
        config=read_object(folder.config_file),
        metrics=metrics,
        dialogues=_read_dialogues(folder.dialogues),
        environment=read_rows(folder.environment),
        summary=folder.read_summary(),
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


def read_rows(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Read the JSON lines of a run that may still write them; a missing file has no lines.

    Raises:
        ConfigError: the file cannot be read, or a line is not a JSON object.
    """
    try:
        return tuple(line.fields for line in read_json_lines(path, is_growing=True))
    except JsonFileError as error:
        raise ConfigError(str(error)) from error


def _read_costs(path: Path) -> dict[str, Mapping[str, Tally]]:
    try:
        ledger = Ledger(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} has an invalid line ({error}). Correct or delete the line.") from error
    by_phase = {phase: ledger.totals([phase]) for phase in ledger.phases}
    return {phase: tallies for phase, tallies in by_phase.items() if tallies}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
