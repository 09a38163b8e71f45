"""A trial: one cell trained with one seed, in a run folder named after both."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mica_ray.config.overrides import with_values
from mica_ray.config.references import ConfigError, nearest
from mica_ray.config.run_config import RunConfig
from mica_ray.files import read_json_lines
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.provenance import NOT_MEASURED, flat_config
from mica_ray.tuning.space import Cell, plain_value
from mica_ray.tuning.sweep import Sweep

_LONGEST_ID = 80


@dataclass(frozen=True, slots=True)
class Trial:
    """One training run of a sweep."""

    id: str
    """Name of its folder, determined by cell and seed."""
    cell: Cell
    seed: int
    config: RunConfig
    """Config of the run; `out` is the trial's folder."""

    @property
    def folder(self) -> RunFolder:
        """Folder of the run."""
        assert self.config.out is not None, "every trial has a folder"
        return RunFolder(self.config.out)

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended: it writes its summary last."""
        return self.folder.summary.is_file()


def trial_id(cell: Cell, seed: int) -> str:
    """Return a folder name for cell and seed, with a digest if the cell's name had to change."""
    exact = "-".join(cell.name.split(" "))
    safe = re.sub(r"[^A-Za-z0-9=._-]+", "_", exact)[:_LONGEST_ID]
    if safe != exact:
        described = json.dumps(
            {key: plain_value(value) for key, value in cell.values.items()} | {"name": cell.name},
            sort_keys=True,
            default=repr,
        )
        safe = f"{safe}-{hashlib.blake2b(described.encode(), digest_size=4).hexdigest()}"
    return f"{safe}-seed{seed}"


def make_trials(sweep: Sweep, cells: Sequence[Cell], folder: Path) -> tuple[Trial, ...]:
    """Return the trials of the cells: all cells with the first seed, then with the next.

    Args:
        sweep: provides base config and seeds.
        cells: points of its space.
        folder: parent of the run folders.

    Raises:
        ConfigError: a key does not exist, or a value is invalid.
    """
    configs = {cell.name: _config(sweep, cell) for cell in cells}
    return tuple(
        Trial(name, cell, seed, configs[cell.name].model_copy(update={"seed": seed, "out": folder / name}))
        for seed in sweep.seeds
        for cell in cells
        for name in [trial_id(cell, seed)]
    )


def check_same_config(trial: Trial) -> None:
    """Check that the trial's folder, if it exists, contains a run with the trial's config.

    Raises:
        ConfigError: the configs differ. The message names the folder and the first key.
    """
    file = trial.folder.config_file
    if not file.is_file() or not file.stat().st_size:
        return
    there, wanted = flat_config(RunConfig.read(file, trusted=True)), flat_config(trial.config)
    compared = [key for key in {**there, **wanted} if key not in NOT_MEASURED]
    keys = [key for key in compared if there.get(key) != wanted.get(key)]
    if keys:
        raise ConfigError(
            f"{trial.folder.path} was trained with {keys[0]}={there.get(keys[0])}, but the sweep now has "
            f"{wanted.get(keys[0])}. Choose another folder with --out, or remove this one."
        )


def _config(sweep: Sweep, cell: Cell) -> RunConfig:
    return with_values(sweep.base.model_copy(update={"name": sweep.name}), cell.settings)


def check_reference(sweep: Sweep, cells: Sequence[Cell]) -> None:
    """Check that the reference cell exists.

    Raises:
        ConfigError: there is no such cell. The message names the most similar one.
    """
    names = [cell.name for cell in cells]
    if sweep.reference is not None and sweep.reference not in names:
        raise ConfigError(
            f"reference: no cell is named {sweep.reference!r}. {nearest(sweep.reference, names)}"
        )


def scores(trial: Trial, metric: str, field: str | None) -> Mapping[str, float]:
    """Return a finished trial's metric, by scenario for an evaluation metric; NaN stays NaN.

    Args:
        trial: finished.
        metric: name of the metric; without a field, its value at the last step.
        field: field of the evaluation's rows; None for a training metric.
    """
    if field is None:
        return {"run": last_value(trial.folder, metric)}
    evaluation = trial.folder.read_evaluation("after", seed=trial.config.evaluation.seed)
    assert evaluation is not None, "a run evaluates before it writes its summary"
    return {
        row.scenario: row.passes / max(row.samples, 1) if field == "pass_fraction" else getattr(row, field)
        for row in evaluation.rows
    }


def curve(folder: RunFolder, metric: str) -> Mapping[int, float]:
    """Return a metric by step, for the steps that the run has done."""
    rows = [line.fields for line in read_json_lines(folder.metrics, is_growing=True)]
    return {row["step"]: float(row[metric]) for row in rows if row.get(metric) is not None}


def last_value(folder: RunFolder, metric: str) -> float:
    """Return a metric at the last step that logged it; NaN if none did."""
    found = curve(folder, metric)
    return found[max(found)] if found else float("nan")
