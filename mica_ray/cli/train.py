"""`mica train`: the dry run's plan, the run with its progress, the closing table."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mica_ray.cli.progress import StageBars
from mica_ray.cli.recipes import read_config
from mica_ray.config import RunConfig
from mica_ray.evaluation.costs import cost_table
from mica_ray.evaluation.report import comparison_table
from mica_ray.files import write_json
from mica_ray.launch import run
from mica_ray.launch.plan import Plan
from mica_ray.runs.summary import RunSummary
from mica_ray.tracking.tracker import ConsoleTracker


def run_training(
    recipe: str | None,
    *,
    assignments: Sequence[str],
    resume: Path | None,
    inline: bool,
    dry_run: bool,
    json_file: Path | None,
) -> None:
    """Train, or print what would be done.

    Raises:
        ConfigError: one line for what cannot be done.
    """
    console = Console()
    config = read_config(recipe, assignments, resume)
    checked = run.check(config, inline=inline, weights=not dry_run)
    if dry_run:
        plan = checked.plan
        console.print_json(config.model_dump_json())
        console.print(_plan_table(plan))
        if json_file is not None:
            write_json(json_file, {"config": config.model_dump(mode="json"), "plan": dict(plan.lines)})
        return
    with _ended_in_order(), StageBars(config, console, num_evaluated=checked.num_evaluated) as bars:
        summary = run.run_training(
            checked,
            resume=resume,
            progress=bars,
            tracker=ConsoleTracker(console, num_steps=config.loop.num_steps),
        )
    _show_summary(console, config, summary)
    if json_file is not None:
        write_json(json_file, summary.to_json())


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: engines are ended, and MLflow is told."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _plan_table(plan: Plan) -> Table:
    table = Table(
        title="plan; everything that can be checked without starting is in order", show_header=False
    )
    for subject, statement in plan.lines:
        table.add_row(subject, statement)
    return table


def _show_summary(console: Console, config: RunConfig, summary: RunSummary) -> None:
    title = f"{config.name}, seed {config.seed}: before and after training"
    console.print(
        comparison_table(
            title, summary.before, summary.after, summary.comparison, contaminated=summary.contaminated
        )
    )
    console.print(cost_table("what policy and roles took", summary.costs))
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
        # Paths must stay whole, so that they can be copied.
        console.print(f"{subject:>15}  {place}", highlight=False, soft_wrap=True)
