"""`mica report figures`: judged dialogues as pictures and one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from mica_ray.config.references import ConfigError
from mica_ray.recordings.recorded_dialogue import RecordingError
from mica_ray.reporting.dialogues.figures import figure_makers, write_figures
from mica_ray.reporting.dialogues.files import read_dialogue_files


def run_figures(files: Sequence[Path], *, out: Path, gamma: float) -> None:
    """Draw the dialogues of the files and say where the pictures are.

    Raises:
        ConfigError: one line for a file that cannot be drawn, or a folder that cannot be written.
    """
    console = Console()
    if not 0 <= gamma <= 1:
        raise ConfigError(f"--gamma must be in [0, 1]; got {gamma}")
    try:
        found = read_dialogue_files(files)
    except RecordingError as error:
        raise ConfigError(str(error)) from error
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("drawing", total=len(figure_makers()) + 1)
        try:
            paths = write_figures(
                found.dialogues,
                out,
                gamma=gamma,
                num_left_out=found.num_left_out,
                progress=lambda name: bars.update(bar, advance=1, description=name),
            )
        except OSError as error:
            raise ConfigError(
                f"--out {out}: cannot be written ({error.strerror}); choose another folder"
            ) from error
    lost = f"; {found.num_left_out} failed ones left out" if found.num_left_out else ""
    console.print(f"{len(found.dialogues)} dialogues{lost}: {len(paths) - 1} pictures and {paths[-1]}")
