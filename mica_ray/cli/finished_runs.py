"""The commands on finished runs, `mica compare`, `mica track` and `mica register`, and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mica_ray.cli.options import JsonFile


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Run folders; those that differ in their seed alone are one row."
        ),
    ],
    against: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(
            "--against", metavar="RUN", help="Compare all with this run; repeatable, for its seeds."
        ),
    ] = None,
    csv_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--csv", metavar="FILE", help="Write the rows as CSV."),
    ] = None,
    markdown_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--markdown", metavar="FILE", help="Write the table as Markdown."),
    ] = None,
    latex_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--latex", metavar="FILE", help="Write the table as LaTeX."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Compare runs: EPM-Q before and after, passed, IDR and differences with their intervals."""
    from mica_ray.cli.compare import run_compare

    run_compare(
        runs,
        against=against or (),
        csv_file=csv_file,
        markdown_file=markdown_file,
        latex_file=latex_file,
        json_file=json_file,
    )


Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def track(run: Run) -> None:
    """Send to MLflow what a run could not send while the server was away."""
    from mica_ray.cli.tracking import run_track

    if not run_track(run):
        raise typer.Exit(1)


def register(
    run: Run,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--name", help="Of the model; the config's name when not given."),
    ] = None,
) -> None:
    """Register a run's trained policy as a model in MLflow, with its EPM-Q and split guard as tags."""
    from mica_ray.cli.tracking import run_register

    run_register(run, name=name)
