"""`mica promote`: a policy passes the gate and gets its alias in MLflow, or the line that failed is said."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mica_ray.config.references import ConfigError
from mica_ray.evaluation.evaluate import Evaluation, EvaluationConfig
from mica_ray.files import write_json
from mica_ray.runs.folder import RunFolder, read_evaluation_record
from mica_ray.runs.registration import Registration, register_policy, set_alias
from mica_ray.safety.check import HelpLines
from mica_ray.safety.measure import OWN_MESSAGES, read_messages
from mica_ray.safety.rules import OWN_RULES, CareRules, RuleCare
from mica_ray.serving.promotion import (
    GateLine,
    benchmark_lines,
    care_line,
    gate_record,
    is_open,
    read_benchmarks,
    score_line,
    split_line,
)

BEFORE = "before"
"""In place of a base: the run's own policy before training."""


@dataclass(frozen=True, slots=True)
class PromoteOptions:
    """What the command line says beside the run and its base."""

    name: str | None = None
    """Of the registered model; that of the run's config when None."""
    alias: str = "champion"
    benchmarks: Path | None = None
    care_messages: Path | None = None
    care_rules: Path | None = None


def run_promotion(run: Path, base: str, options: PromoteOptions, *, json_file: Path | None) -> bool:
    """Pass the run through the gate; say whether it was promoted.

    Raises:
        ConfigError: one line for what cannot be judged; nothing was changed.
    """
    console = Console()
    folder = RunFolder.open(run)
    summary = _summary(folder)
    try:
        lines = _gate(folder, summary, base, options)
        promoted = _promoted(folder, base, options, lines) if is_open(lines) else None
    except ValueError as error:
        raise ConfigError(str(error)) from error
    console.print(_table(run, base, lines))
    if promoted is not None:
        made, reference = promoted
        console.print(
            f"{reference} is version {made.version}; serve it by "
            f"MLFLOW_TRACKING_URI={made.store} mica serve {reference}",
            highlight=False,
            soft_wrap=True,
        )
    else:
        failed = ", ".join(line.subject for line in lines if line.outcome == "failed")
        console.print(f"not promoted: {failed}", highlight=False, soft_wrap=True)
    if json_file is not None:
        model = None if promoted is None else {**asdict(promoted[0]), "reference": promoted[1]}
        write_json(json_file, {"run": str(run), "against": base, **gate_record(lines), "model": model})
    return promoted is not None


def _gate(
    folder: RunFolder, summary: dict[str, Any], base: str, options: PromoteOptions
) -> tuple[GateLine, ...]:
    seed = EvaluationConfig().seed
    check = RuleCare(CareRules.read(options.care_rules or OWN_RULES), HelpLines())
    return (
        score_line(_base(folder, base, seed=seed), _evaluation(folder, "after", seed=seed), seed=seed),
        *benchmark_lines(() if options.benchmarks is None else read_benchmarks(options.benchmarks)),
        care_line(check, read_messages(options.care_messages or OWN_MESSAGES)),
        split_line(summary.get("contaminated")),
    )


def _promoted(
    folder: RunFolder, base: str, options: PromoteOptions, lines: tuple[GateLine, ...]
) -> tuple[Registration, str]:
    reasons = {f"promotion.{line.subject}": f"{line.outcome}: {line.reason}" for line in lines}
    made = register_policy(folder, options.name)
    return made, set_alias(made, options.alias, {"promotion.against": base, **reasons})


def _base(folder: RunFolder, base: str, *, seed: int) -> Evaluation:
    """Read what the run is compared with: a run folder, a file of `mica evaluate --json`, or `before`."""
    if base == BEFORE:
        return _evaluation(folder, "before", seed=seed)
    path = Path(base)
    if path.is_file():
        try:
            return read_evaluation_record(json.loads(path.read_text()), seed=seed)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{base}: no evaluation; write it by `mica evaluate MODEL --json FILE`"
            ) from error
    return _evaluation(RunFolder.open(path), "after", seed=seed)


def _evaluation(folder: RunFolder, when: str, *, seed: int) -> Evaluation:
    evaluation = folder.read_evaluation(when, seed=seed)
    if evaluation is None:
        raise ConfigError(f"{folder.path}: no evaluation {when} training; train it to its end")
    return evaluation


def _summary(folder: RunFolder) -> dict[str, Any]:
    if not folder.summary.is_file():
        raise ConfigError(
            f"{folder.path}: no summary.json, so not finished; go on by `mica train --resume {folder.path}`"
        )
    return json.loads(folder.summary.read_text())


def _table(run: Path, base: str, lines: tuple[GateLine, ...]) -> Table:
    table = Table(title=f"{run} against {base}", box=SIMPLE_HEAD)
    for column in ("condition", "", "why"):
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(line.subject, line.outcome, line.reason)
    return table
