"""The commands `mica report ...` and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mica_ray.cli.default_command import RUNS_COMMAND, group_with_default

report = typer.Typer(
    cls=group_with_default(RUNS_COMMAND),
    name="report",
    help="Report runs: `mica report RUN...` side by side, or one of the commands below.",
)


@report.command(RUNS_COMMAND, hidden=True)
def report_runs(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, finished or not.")],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="FILE.html", help="The page; report.html in the first run's folder."),
    ] = None,
) -> None:
    """Write one page of charts, failures, costs and configs, and the charts as PNG files beside it."""
    from mica_ray.cli.run_report import run_report_of_runs

    run_report_of_runs(runs, out=out)


@report.command()
def turns(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, finished or not.")],
    dialogue: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--dialogue", metavar="ID", help="STEP-GROUP-DIALOGUE: its group alone."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="FILE.html", help="The page; turns.html in the run's folder."),
    ] = None,
) -> None:
    """Write one page of dialogues with what every turn was credited with, against GRPO."""
    from mica_ray.cli.turn_report import run_turn_report

    run_turn_report(run, dialogue=dialogue, out=out)


@report.command()
def figures(
    files: Annotated[
        list[Path], typer.Argument(help="Judged dialogues, JSON lines: ours, or published EMPA runs.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the pictures and the page go.")],
    gamma: Annotated[float, typer.Option("--gamma", help="Discount of the returns drawn.")] = 0.85,
) -> None:
    """Draw dialogues: PNG files, and one page that opens offline."""
    from mica_ray.cli.figures import run_figures

    run_figures(files, out=out, gamma=gamma)
