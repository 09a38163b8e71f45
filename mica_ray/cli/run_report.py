"""`mica report RUN...`: runs side by side as one page and PNGs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from mica_ray.config.references import ConfigError
from mica_ray.reporting.runs.page import write_run_report
from mica_ray.runs.stored_run import read_runs

NAME = "report.html"


def run_report_of_runs(folders: Sequence[Path], *, out: Path | None) -> None:
    """Write the report, into the folder of the first run when not told otherwise, and say where it is.

    Raises:
        ConfigError: one line for a folder that is no run, or a place that cannot be written.
    """
    console = Console()
    path = out or folders[0] / NAME
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("reading", total=None)
        runs = read_runs(folders)
        try:
            written = write_run_report(
                runs, path, progress=lambda name: bars.update(bar, advance=1, description=name)
            )
        except OSError as error:
            raise ConfigError(
                f"--out {path}: cannot be written ({error.strerror}); name another file"
            ) from error
    unfinished = [run.name for run in runs if run.summary is None]
    note = f"; unfinished: {', '.join(unfinished)}" if unfinished else ""
    console.print(
        f"{', '.join(run.name for run in runs)}{note}: {len(written) - 1} pictures and {written[-1]}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
