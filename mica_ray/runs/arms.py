"""Group run folders into arms: runs whose configs differ only in the seed.

evaluation/arms.py compares arms, reporting/runs/comparison.py lays the comparison out.
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
from mica_ray.files import read_json_lines
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.provenance import NOT_MEASURED, flat_config

_IGNORED_KEYS = frozenset({"seed", *NOT_MEASURED})
"""Keys in which runs of one arm may differ: the seed, and keys on which no number depends."""
_MAX_KEYS, _MAX_KEY_LENGTH = 2, 24
"""Maximum number of keys in an arm's name, and characters of each; longer names are unreadable."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run with a summary."""

    config: RunConfig
    before: Evaluation
    after: Evaluation
    usd: float | None
    """Costs of policy and roles; None if the run recorded none."""


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """A run that is still running, or was stopped."""

    config: RunConfig
    steps_done: int


@dataclass(frozen=True, slots=True)
class RunArm:
    """Runs of one config, one per seed."""

    name: str
    """Name of the config, with the keys that distinguish arms of the same name."""
    folders: frozenset[Path]
    """Folders of all runs."""
    config: RunConfig
    """Config of the run with the lowest seed."""
    finished: tuple[FinishedRun, ...]
    """In order of seed."""
    unfinished: tuple[UnfinishedRun, ...]
    """In order of seed."""

    @property
    def after(self) -> tuple[Evaluation, ...]:
        """[S] evaluations of the trained policies, in order of seed."""
        return tuple(run.after for run in self.finished)

    def before_scores(self, value: Callable[[ScenarioRow], float]) -> Arm:
        """Return `value` of every scenario before training, by seed."""
        return self._scores([run.before for run in self.finished], value)

    def after_scores(self, value: Callable[[ScenarioRow], float]) -> Arm:
        """Return `value` of every scenario after training, by seed."""
        return self._scores(self.after, value)

    def _scores(self, evaluations: Sequence[Evaluation], value: Callable[[ScenarioRow], float]) -> Arm:
        by_case = [{row.scenario: row for row in item.rows if row.samples} for item in evaluations]
        cases = tuple(dict.fromkeys(row.scenario for item in evaluations for row in item.rows))
        scores = [[value(rows[case]) if case in rows else math.nan for case in cases] for rows in by_case]
        seeds = tuple(run.config.seed for run in self.finished)
        return Arm(self.name, np.array(scores, dtype=float).reshape(len(seeds), len(cases)), seeds, cases)


def read_arms(folders: Sequence[Path]) -> tuple[RunArm, ...]:
    """Read runs, and group those that differ only in the seed, in the given order.

    Raises:
        ConfigError: a folder contains no run or cannot be read, or two runs have the same config and seed.
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
            raise ConfigError(f"{folder} has the same config and seed as {other}. List only one of the two.")
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
            f"{path} has no config.json, so it is no run folder. Use a folder that `mica train` printed."
        )
    config = RunConfig.read(folder.config_file)
    try:
        before, after = (
            folder.read_evaluation(when, seed=config.evaluation.seed) for when in ("before", "after")
        )
        summary = folder.read_summary()
        if before is None or after is None or summary is None:
            return UnfinishedRun(config, _num_steps(folder.metrics))
        costs = summary.get("costs")
        usd = None if costs is None else math.fsum(tally["usd"] for tally in costs.values())
    except ConfigError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: a file of the run is invalid ({error}). Train the run again.") from error
    return FinishedRun(config, before, after, usd)


def _num_steps(metrics: Path) -> int:
    """Return the number of steps whose update is in the metrics."""
    lines = read_json_lines(metrics, is_growing=True)
    return 1 + max((line.fields["step"] for line in lines if "weight_version" in line.fields), default=-1)


def _settings(config: RunConfig) -> dict[str, str]:
    flat = flat_config(config)
    return {key: text for key, text in flat.items() if key.partition(".")[0] not in _IGNORED_KEYS}


def _names(members: Sequence[Sequence[tuple[Path, FinishedRun | UnfinishedRun]]]) -> list[str]:
    """Return a unique name per arm: the config's, with distinguishing keys, or the folder's."""
    settings = [_settings(arm[0][1].config) for arm in members]
    names = [_name(own, [other for other in settings if other["name"] == own["name"]]) for own in settings]
    chosen = [name or arm[0][0].name for name, arm in zip(names, members, strict=True)]
    return [name if chosen.count(name) == 1 else f"{name} ({index + 1})" for index, name in enumerate(chosen)]


def _name(own: dict[str, str], namesakes: Sequence[dict[str, str]]) -> str | None:
    """Return the config's name with the keys that distinguish the arm; None if too long."""
    keys = [key for key in own if any(other.get(key) != own[key] for other in namesakes)]
    parts = [f"{key.rpartition('.')[2]}={own[key]}" for key in keys]
    if len(keys) > _MAX_KEYS or any(len(text) > _MAX_KEY_LENGTH for text in parts):
        return None
    return " ".join([own["name"], *parts])
