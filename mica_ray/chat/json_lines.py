"""Files of JSON lines that only grow: whole lines, whatever was killed when. One writer at a time."""

from __future__ import annotations

import os
from pathlib import Path


def mend_lines(path: Path) -> None:
    """Make a file ready for more lines: made when missing, and rid of a line that a crash left unfinished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def append_line(path: Path, line: bytes, *, synced: bool = False) -> None:
    """Add one line in one piece: a reader or a crash never sees half of two.

    Args:
        path: of the file.
        line: without its newline.
        synced: whether to wait until the disk has it.
    """
    with path.open("ab", buffering=0) as file:
        file.write(line + b"\n")
        if synced:
            os.fsync(file.fileno())
