"""A trial: one cell under one seed in one run folder, whose name follows from the two alone."""

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
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.provenance import NOT_MEASURED, flat_config
from mica_ray.tuning.space import Cell, plain_value
from mica_ray.tuning.sweep import Sweep

_LONGEST_ID = 80


@dataclass(frozen=True, slots=True)
class Trial:
    """One training run of a sweep."""

    id: str
    """Of its folder; the same whenever cell and seed are."""
    cell: Cell
    seed: int
    config: RunConfig
    """What is trained; `out` is the trial's folder."""

    @property
    def folder(self) -> RunFolder:
        """Where it is trained."""
        assert self.config.out is not None, "every trial has a folder"
        return RunFolder(self.config.out)

    @property
    def is_finished(self) -> bool:
        """Whether its run came to its end; a run writes its summary last."""
        return self.folder.summary.is_file()


def trial_id(cell: Cell, seed: int) -> str:
    """Name a trial by cell and seed; a digest stands for what no folder can be called."""
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
    """Give the trials of cells, all cells of a seed before the next seed.

    Args:
        sweep: whose base and seeds they have.
        cells: of its space.
        folder: in which each has its run folder.

    Raises:
        ConfigError: a key that does not exist, or a value that does not fit.
    """
    configs = {cell.name: _config(sweep, cell) for cell in cells}
    return tuple(
        Trial(name, cell, seed, configs[cell.name].model_copy(update={"seed": seed, "out": folder / name}))
        for seed in sweep.seeds
        for cell in cells
        for name in [trial_id(cell, seed)]
    )


def refuse_other_config(trial: Trial) -> None:
    """Refuse to read or go on with a folder that holds another run than the trial's.

    Raises:
        ConfigError: names the folder and the first key that differs.
    """
    file = trial.folder.config_file
    if not file.is_file() or not file.stat().st_size:
        return
    there, wanted = flat_config(RunConfig.read(file)), flat_config(trial.config)
    compared = [key for key in {**there, **wanted} if key not in NOT_MEASURED]
    keys = [key for key in compared if there.get(key) != wanted.get(key)]
    if keys:
        raise ConfigError(
            f"{trial.folder.path}: was trained with {keys[0]}={there.get(keys[0])}, and the sweep now says "
            f"{wanted.get(keys[0])}; name another folder by --out, or remove this one"
        )


def _config(sweep: Sweep, cell: Cell) -> RunConfig:
    return with_values(sweep.base.model_copy(update={"name": sweep.name}), cell.settings)


def refuse_unknown_reference(sweep: Sweep, cells: Sequence[Cell]) -> None:
    """Refuse a comparison with a cell that is not there.

    Raises:
        ConfigError: names the nearest cell.
    """
    names = [cell.name for cell in cells]
    if sweep.reference is not None and sweep.reference not in names:
        raise ConfigError(
            f"reference: no cell is called {sweep.reference!r}; {nearest(sweep.reference, names)}"
        )


def scores(trial: Trial, metric: str, field: str | None) -> Mapping[str, float]:
    """Give a finished trial's metric, by scenario where an evaluation gives it; NaN stays NaN.

    Args:
        trial: finished.
        metric: logged; of its last step where there is no field.
        field: of the evaluation's rows.
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
    """Give a metric by step, as far as the run has come."""
    if not folder.metrics.is_file():
        return {}
    text = folder.metrics.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return {row["step"]: float(row[metric]) for row in rows if row.get(metric) is not None}


def last_value(folder: RunFolder, metric: str) -> float:
    """Give a metric of the last step that has it; NaN without any."""
    found = curve(folder, metric)
    return found[max(found)] if found else float("nan")
