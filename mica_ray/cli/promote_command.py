"""The command `mica promote` and its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mica_ray.cli.options import JsonFile


def promote(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    against: Annotated[
        str,
        typer.Option(
            metavar="BASE", help="A run folder, a file of `mica evaluate --json`, or `before`: RUN's start."
        ),
    ],
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Of the registered model; the run's own name when not given."),
    ] = None,
    alias: Annotated[str, typer.Option(help="What the model gets in MLflow.")] = "champion",
    benchmarks: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE", help="JSON list of name, run, base, margin, score: none may fall further."
        ),
    ] = None,
    care_messages: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Labelled messages for the care check instead of our own."),
    ] = None,
    care_rules: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Rules of the care check instead of our own."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Let a trained policy be served under an alias if it passes the gate; 1 if it does not."""
    from mica_ray.cli.promote import PromoteOptions, run_promotion

    options = PromoteOptions(name, alias, benchmarks, care_messages, care_rules)
    if not run_promotion(run, against, options, json_file=json_file):
        raise typer.Exit(1)
