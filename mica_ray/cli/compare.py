"""`mica compare`: runs side by side, on the terminal and as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from mica_ray.config.references import ConfigError
from mica_ray.files import write_json, write_whole
from mica_ray.reporting.runs.comparison import run_csv, run_rows, run_text_table
from mica_ray.runs.arms import RunArm, read_arms


def run_compare(
    runs: Sequence[Path],
    *,
    against: Sequence[Path],
    csv_file: Path | None,
    markdown_file: Path | None,
    latex_file: Path | None,
    json_file: Path | None,
) -> None:
    """Print the table and write the files asked for.

    Raises:
        ConfigError: one line for a folder that is no run, a base without a finished run, or a file that
            cannot be written.
    """
    arms = read_arms([*runs, *against])
    base = _base(arms, against)
    rows = run_rows(arms, base)
    table = run_text_table(rows, base=None if base is None else base.name)
    table.show()
    for note in table.notes:
        Console().print(note, highlight=False, markup=False, soft_wrap=True)
    texts = ((csv_file, run_csv(rows)), (markdown_file, table.markdown()), (latex_file, table.latex()))
    try:
        for path, text in texts:
            if path is not None:
                write_whole(path, text)
        if json_file is not None:
            write_json(json_file, {"against": base and base.name, "rows": [asdict(row) for row in rows]})
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written ({error.strerror})") from error


def _base(arms: Sequence[RunArm], against: Sequence[Path]) -> RunArm | None:
    """Find the arm to compare with, None when none is asked for."""
    if not against:
        return None
    named = {path.resolve() for path in against}
    found = [arm for arm in arms if arm.folders & named]
    if len(found) > 1:
        places = " and ".join(map(str, against))
        raise ConfigError(f"--against: {places} differ in more than their seed; name runs of one arm")
    if not found[0].finished:
        raise ConfigError(f"--against {against[0]}: has not finished; go on with `mica train --resume` first")
    return found[0]
