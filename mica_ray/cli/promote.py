"""`mica promote`: set a policy's MLflow alias if it passes the gate, else print what failed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mica_ray.cli.options import JsonFileOption, TrustOption, new_console, save_json

if TYPE_CHECKING:
    from mica_ray.evaluation.evaluate import Evaluation
    from mica_ray.runs.folder import RunFolder
    from mica_ray.serving.promotion import GateLine

BEFORE = "before"
"""The value of `--against` that means the run's own policy before training."""


def promote_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    against: Annotated[
        str,
        typer.Option(
            metavar="BASE",
            help="What to compare with: a run folder, a file of `mica evaluate --json`, or `before`, the "
            "run's own policy before training.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the registered model. Default: the name in the run's config.")
    ] = None,
    alias: Annotated[str, typer.Option(help="Alias that the model gets in MLflow.")] = "champion",
    benchmarks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="More conditions: a JSON list of {name, run, base, margin, score}. No score may be worse "
            "than its base by more than the margin.",
        ),
    ] = None,
    care_messages: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labelled messages for the care check. Default: our own."),
    ] = None,
    care_rules: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rules of the care check. Default: our own.")
    ] = None,
    json_file: JsonFileOption = None,
    trust: TrustOption = False,
) -> None:
    """Set an alias for a trained policy in MLflow, if it passes the gate.

    The gate requires a better EPM-Q than the base, no benchmark below its margin, a care
    check that works, and a clean test split. The exit code is 1 if it fails.
    """
    from mica_ray.config.references import ConfigError
    from mica_ray.runs.folder import RunFolder
    from mica_ray.runs.registration import register_policy, set_alias
    from mica_ray.serving.promotion import gate_record, is_open

    console = new_console()
    folder = RunFolder.open(run)
    model = None
    try:
        lines = _gate(folder, against, benchmarks, care_messages, care_rules)
        if is_open(lines):
            reasons = {f"promotion.{line.subject}": f"{line.outcome}: {line.reason}" for line in lines}
            registration = register_policy(folder, name)
            reference = set_alias(registration, alias, {"promotion.against": against, **reasons})
            model = {**asdict(registration), "reference": reference}
    except ValueError as error:
        raise ConfigError(str(error)) from error
    console.print(gate_table(run, against, lines))
    if model is None:
        failed = ", ".join(line.subject for line in lines if line.outcome == "failed")
        outcome = f"not promoted: {failed}"
    else:
        outcome = (
            f"{model['reference']} is version {model['version']}. Serve it with "
            f"MLFLOW_TRACKING_URI={model['store']} mica serve {model['reference']}"
        )
    console.print(outcome, highlight=False, soft_wrap=True)
    save_json(json_file, {"run": str(run), "against": against, **gate_record(lines), "model": model})
    if model is None:
        raise typer.Exit(1)


def _gate(
    folder: RunFolder, base: str, benchmarks: Path | None, care_messages: Path | None, care_rules: Path | None
) -> tuple[GateLine, ...]:
    """Check every condition of the gate."""
    from mica_ray.evaluation.evaluate import EvaluationConfig
    from mica_ray.safety.check import HelpLines
    from mica_ray.safety.measure import OWN_MESSAGES, read_messages
    from mica_ray.safety.rules import OWN_RULES, CareRules, RuleCare
    from mica_ray.serving.promotion import (
        benchmark_lines,
        care_line,
        read_benchmarks,
        score_line,
        split_line,
    )

    summary = _summary(folder)
    seed = EvaluationConfig().seed
    check = RuleCare(CareRules.read(care_rules or OWN_RULES), HelpLines())
    return (
        score_line(_base(folder, base, seed=seed), _evaluation(folder, "after", seed=seed), seed=seed),
        *benchmark_lines(() if benchmarks is None else read_benchmarks(benchmarks)),
        care_line(check, read_messages(care_messages or OWN_MESSAGES)),
        split_line(summary.get("contaminated")),
    )


def _base(folder: RunFolder, base: str, *, seed: int) -> Evaluation:
    """Read the evaluation of `--against`."""
    from mica_ray.config.references import ConfigError
    from mica_ray.runs.folder import RunFolder, read_evaluation_record

    if base == BEFORE:
        return _evaluation(folder, "before", seed=seed)
    path = Path(base)
    if path.is_file():
        try:
            return read_evaluation_record(json.loads(path.read_text()), seed=seed)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{base}: not an evaluation. Write one with `mica evaluate MODEL --json FILE`."
            ) from error
    return _evaluation(RunFolder.open(path), "after", seed=seed)


def _evaluation(folder: RunFolder, when: str, *, seed: int) -> Evaluation:
    from mica_ray.config.references import ConfigError

    evaluation = folder.read_evaluation(when, seed=seed)
    if evaluation is None:
        raise ConfigError(
            f"{folder.path}: no evaluation {when} training. Finish the run with "
            f"`mica train --resume {folder.path}`."
        )
    return evaluation


def _summary(folder: RunFolder) -> dict[str, Any]:
    from mica_ray.config.references import ConfigError

    if not folder.summary.is_file():
        raise ConfigError(
            f"{folder.path}: no summary.json, the run has not finished. Continue it with "
            f"`mica train --resume {folder.path}`."
        )
    return json.loads(folder.summary.read_text())


def gate_table(run: Path, base: str, lines: tuple[GateLine, ...]) -> Table:
    """Return the conditions of the gate as a table."""
    table = Table(title=f"{run} against {base}", box=SIMPLE_HEAD)
    for column in ("condition", "outcome", "reason"):
        table.add_column(column, overflow="fold", no_wrap=column == "outcome")
    for line in lines:
        table.add_row(line.subject, line.outcome, line.reason)
    return table
