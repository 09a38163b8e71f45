"""`mica train`: the plan of a dry run, a run with its progress bars, the closing table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mica_ray.cli.options import (
    DryRunOption,
    InlineOption,
    JsonFileOption,
    RecipeArgument,
    SetOption,
    TrustOption,
    new_console,
    save_json,
)

if TYPE_CHECKING:
    from mica_ray.config import RunConfig
    from mica_ray.launch.plan import Plan
    from mica_ray.runs.summary import RunSummary

ResumeOption = Annotated[
    Path | None,
    typer.Option("--resume", metavar="DIR", help="Continue the run in this folder from its last checkpoint."),
]


def train_command(
    recipe: RecipeArgument = None,
    sets: SetOption = None,
    resume: ResumeOption = None,
    inline: InlineOption = False,
    dry_run: DryRunOption = False,
    json_file: JsonFileOption = None,
    trust: TrustOption = False,
) -> None:
    """Train a policy, and evaluate it before and after."""
    from mica_ray.cli.progress import StageBars
    from mica_ray.cli.recipes import read_config
    from mica_ray.launch import run
    from mica_ray.tracking.tracker import ConsoleTracker

    console = new_console()
    config = read_config(recipe, sets or (), resume)
    checked = run.check(config, inline=inline, weights=not dry_run)
    if dry_run:
        if resume is not None:
            run.check_resume(checked, resume)
        from mica_ray.launch.doctor.examine import examine_for_free

        findings = examine_for_free(checked, environment=os.environ)
        plan = checked.plan
        console.print_json(config.model_dump_json())
        console.print(plan_table(plan))
        for finding in findings:
            if finding.status == "warning":
                console.print(f"warning: {finding.line}", style="yellow", markup=False, highlight=False)
        save_json(
            json_file,
            {
                "config": config.model_dump(mode="json"),
                "plan": dict(plan.lines),
                "memory": checked.memory.to_json(),
            },
        )
        return
    with StageBars(config, console, num_evaluated=checked.num_evaluated) as bars:
        summary = run.run_training(
            checked,
            resume=resume,
            progress=bars,
            tracker=ConsoleTracker(console, num_steps=config.loop.num_steps),
        )
    _show_summary(console, config, summary)
    save_json(json_file, summary.to_json())


def plan_table(plan: Plan) -> Table:
    """Return the plan of a dry run as a table."""
    table = Table(title="Plan. Everything that can be checked before the start is fine.", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for subject, statement in plan.lines:
        table.add_row(subject, statement)
    return table


def _show_summary(console: Console, config: RunConfig, summary: RunSummary) -> None:
    from mica_ray.evaluation.costs import cost_table
    from mica_ray.evaluation.tables import comparison_table

    title = f"{config.name}, seed {config.seed}: before and after training"
    console.print(
        comparison_table(
            title, summary.before, summary.after, summary.comparison, contaminated=summary.contaminated
        )
    )
    console.print(cost_table("Calls and costs of policy and roles", summary.costs))
    per_point = summary.usd_per_point
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in summary.seconds.items())
    folder = summary.folder
    for subject, place in (
        ("run folder", folder.path),
        ("trained policy", summary.policy),
        ("dialogues", folder.dialogues),
        ("metrics", folder.metrics),
        ("MLflow", summary.tracking_uri),
        *([("model", summary.registered)] if summary.registered is not None else []),
        ("costs", folder.costs),
        *([("price", f"{per_point:.3g} USD per point of EPM-Q gained")] if per_point is not None else []),
        ("time", seconds),
        ("talk to it", f"mica chat {folder.path}"),
    ):
        # No line breaks within paths, so that they can be copied.
        console.print(f"{subject:>15}  {place}", highlight=False, soft_wrap=True)
