"""`mica report`: pages and figures of runs, of credited turns and of dialogues."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mica_ray.cli.options import RunArgument, examples, group_with_default, new_console, writing

RUNS_PAGE, TURNS_PAGE = "report.html", "turns.html"
"""Default names of the pages, in the run's folder."""

DEFAULT = "runs"
"""The command behind `mica report RUN...`."""

report_app = typer.Typer(
    cls=group_with_default(DEFAULT),
    name="report",
    help="Write pages and figures of runs and dialogues; they open offline.\n\n"
    "`mica report RUN...` shows runs side by side; `mica report RUN --help` lists its options.",
    epilog=examples(
        "mica report runs/a runs/b --out report.html",
        "mica report turns runs/a",
        "mica report figures runs/a/dialogues.jsonl --out figures",
    ),
)


@report_app.command(DEFAULT, hidden=True)
def report_runs_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders, finished or not.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE.html", help=f"The page. Default: {RUNS_PAGE} in the first run's folder."
        ),
    ] = None,
) -> None:
    """Write one page with charts, failures, costs and configs of runs, and a PNG file of each chart."""
    from mica_ray.cli.progress import new_bars
    from mica_ray.reporting.runs.page import write_run_report
    from mica_ray.runs.stored_run import read_runs

    console = new_console()
    path = out or runs[0] / RUNS_PAGE
    with new_bars(console, transient=True) as bars, writing("--out", path):
        bar = bars.add_task("read", total=None)
        stored = read_runs(runs)
        written = write_run_report(
            stored, path, progress=lambda name: bars.update(bar, advance=1, description=name)
        )
    unfinished = [run.name for run in stored if run.summary is None]
    note = f" (unfinished: {', '.join(unfinished)})" if unfinished else ""
    console.print(
        f"{', '.join(run.name for run in stored)}{note}: {len(written) - 1} PNG files and {written[-1]}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


@report_app.command("turns", epilog=examples("mica report turns runs/a --dialogue 21-3-0"))
def turns_command(
    run: RunArgument,
    dialogue: Annotated[
        str | None,
        typer.Option(
            "--dialogue", metavar="ID", help="Show only the group of this dialogue: STEP-GROUP-SAMPLE."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE.html", help=f"The page. Default: {TURNS_PAGE} in the run's folder."
        ),
    ] = None,
) -> None:
    """Write one page of a run's dialogues with the credit of every turn, beside GRPO's."""
    from mica_ray.files import write_whole
    from mica_ray.reporting.credit.turn_page import turn_report
    from mica_ray.runs.stored_run import read_runs

    console = new_console()
    path = out or run / TURNS_PAGE
    with console.status("reading dialogues and computing credit"):
        (stored,) = read_runs([run])
        text = turn_report(stored, dialogue=dialogue)
        with writing("--out", path):
            write_whole(path, text)
    console.print(
        f"{len(stored.dialogues)} dialogues, {len(text.encode()) / 1e6:.1f} MB: {path}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@report_app.command("figures", epilog=examples("mica report figures runs/a/dialogues.jsonl --out figures"))
def figures_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help="Judged dialogues as JSON lines: files of a run, or published EMPA runs."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the pictures and the page.")],
    gamma: Annotated[float, typer.Option("--gamma", help="Discount of the returns, from 0 to 1.")] = 0.85,
) -> None:
    """Draw dialogues as PNG files and one page."""
    from mica_ray.checks import within
    from mica_ray.cli.progress import new_bars
    from mica_ray.config.references import ConfigError
    from mica_ray.recordings.recorded_dialogue import RecordingError
    from mica_ray.reporting.dialogues.figures import figure_makers, write_figures
    from mica_ray.reporting.dialogues.files import read_dialogue_files

    console = new_console()
    try:
        within(0, 1, **{"--gamma": gamma})
        found = read_dialogue_files(files)
    except (RecordingError, ValueError) as error:
        raise ConfigError(str(error)) from error
    with new_bars(console, transient=True) as bars, writing("--out", out):
        bar = bars.add_task("draw", total=len(figure_makers()) + 1)
        paths = write_figures(
            found.dialogues,
            out,
            gamma=gamma,
            num_left_out=found.num_left_out,
            progress=lambda name: bars.update(bar, advance=1, description=name),
        )
    failed = f" ({found.num_left_out} failed ones left out)" if found.num_left_out else ""
    console.print(
        f"{len(found.dialogues)} dialogues{failed}: {len(paths) - 1} PNG files and {paths[-1]}",
        highlight=False,
        soft_wrap=True,
    )
