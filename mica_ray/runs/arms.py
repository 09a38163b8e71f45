"""Run folders read back as arms: runs that differ in their seed alone are one arm under several seeds.

What is computed from the arms is in evaluation/arms.py, how they are laid out in run_table.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.evaluation.arms import Arm
from mica_ray.evaluation.evaluate import Evaluation, ScenarioRow
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.provenance import NOT_MEASURED, flat_config

_NOT_OF_THE_ARM = frozenset({"seed", *NOT_MEASURED})
"""Keys in which the runs of one arm may differ: the seed, and what no number depends on."""
_MOST_KEYS, _LONGEST_KEY = 2, 24
"""Keys, and characters of each, that tell arms of one name apart: more would make no name."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that has its summary."""

    config: RunConfig
    before: Evaluation
    after: Evaluation
    usd: float | None
    """What policy and roles took; None where the run kept no costs."""


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """A run that is still going on, or was stopped."""

    config: RunConfig
    steps_done: int


@dataclass(frozen=True, slots=True)
class RunArm:
    """Runs of one config."""

    name: str
    """The config's name; where arms share it, with what tells them apart."""
    folders: frozenset[Path]
    """Of all its runs."""
    config: RunConfig
    """Of one of the runs."""
    finished: tuple[FinishedRun, ...]
    """By seed."""
    unfinished: tuple[UnfinishedRun, ...]
    """By seed."""

    @property
    def after(self) -> tuple[Evaluation, ...]:
        """[S], the evaluations of the trained policies."""
        return tuple(run.after for run in self.finished)

    def before_scores(self, value: Callable[[ScenarioRow], float]) -> Arm:
        """Give a number of every scenario before training, by seed."""
        return self._scores([run.before for run in self.finished], value)

    def after_scores(self, value: Callable[[ScenarioRow], float]) -> Arm:
        """Give a number of every scenario after training, by seed."""
        return self._scores(self.after, value)

    def _scores(self, evaluations: Sequence[Evaluation], value: Callable[[ScenarioRow], float]) -> Arm:
        by_case = [{row.scenario: row for row in item.rows if row.samples} for item in evaluations]
        cases = tuple(dict.fromkeys(row.scenario for item in evaluations for row in item.rows))
        scores = [[value(rows[case]) if case in rows else math.nan for case in cases] for rows in by_case]
        seeds = tuple(run.config.seed for run in self.finished)
        return Arm(self.name, np.array(scores, dtype=float).reshape(len(seeds), len(cases)), seeds, cases)


def read_arms(folders: Sequence[Path]) -> tuple[RunArm, ...]:
    """Read runs and put those together that differ in their seed alone, in the order in which they are named.

    Raises:
        ConfigError: a folder is no run's or cannot be read, or two runs have one config and one seed.
    """
    groups: dict[str, list[tuple[Path, FinishedRun | UnfinishedRun]]] = {}
    for folder in dict.fromkeys(path.resolve() for path in folders):
        run = _read_run(folder)
        groups.setdefault(json.dumps(_settings(run.config)), []).append((folder, run))
    names = _names(list(groups.values()))
    return tuple(_arm(name, members) for name, members in zip(names, groups.values(), strict=True))


def _arm(name: str, members: Sequence[tuple[Path, FinishedRun | UnfinishedRun]]) -> RunArm:
    seen: dict[int, Path] = {}
    for folder, run in members:
        if (other := seen.setdefault(run.config.seed, folder)) != folder:
            raise ConfigError(f"{folder}: has the config and the seed of {other}; name one of the two")
    runs = sorted((run for _, run in members), key=lambda run: run.config.seed)
    return RunArm(
        name=name,
        folders=frozenset(seen.values()),
        config=runs[0].config,
        finished=tuple(run for run in runs if isinstance(run, FinishedRun)),
        unfinished=tuple(run for run in runs if isinstance(run, UnfinishedRun)),
    )


def _read_run(path: Path) -> FinishedRun | UnfinishedRun:
    folder = RunFolder(path)
    if not folder.config_file.is_file():
        raise ConfigError(
            f"{path}: no run folder, it has no config.json; give the folder that `mica train` named"
        )
    config = RunConfig.read(folder.config_file)
    try:
        before, after = (
            folder.read_evaluation(when, seed=config.evaluation.seed) for when in ("before", "after")
        )
        if before is None or after is None or not folder.summary.is_file():
            return UnfinishedRun(config, _steps_done(folder.metrics))
        costs = json.loads(folder.summary.read_text()).get("costs")
        usd = None if costs is None else math.fsum(tally["usd"] for tally in costs.values())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: a file of the run cannot be read ({error}); train it again") from error
    return FinishedRun(config, before, after, usd)


def _steps_done(metrics: Path) -> int:
    """Count the steps whose update is recorded; a line cut short by a kill is none."""
    text = metrics.read_text() if metrics.is_file() else ""
    rows = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return 1 + max((row["step"] for row in rows if "weight_version" in row), default=-1)


def _settings(config: RunConfig) -> dict[str, str]:
    flat = flat_config(config)
    return {key: text for key, text in flat.items() if key.partition(".")[0] not in _NOT_OF_THE_ARM}


def _names(members: Sequence[Sequence[tuple[Path, FinishedRun | UnfinishedRun]]]) -> list[str]:
    """Give each arm its config's name; arms that share one are told apart by keys, or by a folder's name."""
    settings = [_settings(arm[0][1].config) for arm in members]
    names = [_name(own, [other for other in settings if other["name"] == own["name"]]) for own in settings]
    given = [name or arm[0][0].name for name, arm in zip(names, members, strict=True)]
    return [name if given.count(name) == 1 else f"{name} ({index + 1})" for index, name in enumerate(given)]


def _name(own: dict[str, str], namesakes: Sequence[dict[str, str]]) -> str | None:
    """Give the name, with the keys in which the arm differs from its namesakes; None where these are many."""
    keys = [key for key in own if any(other.get(key) != own[key] for other in namesakes)]
    shown = [f"{key.rpartition('.')[2]}={own[key]}" for key in keys]
    if len(keys) > _MOST_KEYS or any(len(text) > _LONGEST_KEY for text in shown):
        return None
    return " ".join([own["name"], *shown])
