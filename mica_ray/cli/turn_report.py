"""`mica report turns RUN`: the credit of every turn of a run's dialogues, as one page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mica_ray.config.references import ConfigError
from mica_ray.files import write_whole
from mica_ray.reporting.credit.turn_page import turn_report
from mica_ray.runs.stored_run import read_runs

NAME = "turns.html"


def run_turn_report(folder: Path, *, dialogue: str | None, out: Path | None) -> None:
    """Write the page, into the run's folder when not told otherwise, and say where it is.

    Raises:
        ConfigError: one line for a folder that is no run, a dialogue it does not have, or a place that cannot
            be written.
    """
    console = Console()
    path = out or folder / NAME
    with console.status("reading the dialogues and crediting their turns"):
        (run,) = read_runs([folder])
        text = turn_report(run, dialogue=dialogue)
        try:
            write_whole(path, text)
        except OSError as error:
            raise ConfigError(
                f"--out {path}: cannot be written ({error.strerror}); name another file"
            ) from error
    console.print(
        f"{len(run.dialogues)} dialogues, {len(text.encode()) / 1e6:.1f} MB: {path}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
