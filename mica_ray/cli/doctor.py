"""`mica doctor`: a table of what a run needs, what was found, and what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from mica_ray.cli.options import (
    InlineOption,
    JsonFileOption,
    RecipeArgument,
    SetOption,
    TrustOption,
    new_console,
    save_json,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mica_ray.launch.doctor.finding import Finding

_COLORS = {"ok": "green", "warning": "yellow", "failed": "red"}


def doctor_command(
    recipe: RecipeArgument = None,
    sets: SetOption = None,
    inline: InlineOption = False,
    calls: Annotated[
        bool, typer.Option(help="Send one request to each endpoint of a role; it may cost money.")
    ] = True,
    trust: TrustOption = False,
    json_file: JsonFileOption = None,
) -> None:
    """Check what a run needs, with real calls, and show what to do.

    The exit code is 2 if the run could not work; warnings do not count.
    """
    from dataclasses import asdict

    from mica_ray.cli.recipes import read_config
    from mica_ray.launch.doctor.examine import examine

    console = new_console()
    config = read_config(recipe, sets or (), None)
    with console.status("checking"):
        findings = examine(config, inline=inline, environment=os.environ, paid=calls)
    console.print(findings_table(findings))
    save_json(json_file, {"findings": [asdict(finding) for finding in findings]})
    num_failed = sum(finding.status == "failed" for finding in findings)
    if num_failed:
        console.print(
            f"{num_failed} of {len(findings)} checks failed: this run cannot work.", highlight=False
        )
        raise typer.Exit(2)
    console.print("This run can start.", highlight=False)


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return one row per finding: the check, its outcome, what was found, what to do."""
    table = Table()
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("to do", overflow="fold")
    for finding in findings:
        # Text: paths and errors may contain brackets, which rich reads as markup.
        table.add_row(
            Text(finding.subject),
            Text(finding.status, style=_COLORS[finding.status]),
            Text(finding.found),
            Text(finding.fix),
        )
    return table
