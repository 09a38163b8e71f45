"""The files that the service writes: checked before it starts, so that no request is the first to fail."""

from __future__ import annotations

import os
from pathlib import Path

from mica_ray.serving.http.settings import ServeSettings

_SQLITE = b"SQLite format 3\0"


def check_files(settings: ServeSettings) -> None:
    """Check that the service can write its files.

    Raises:
        ValueError: a path is a folder or cannot be written, or the sessions file is another kind of file.
    """
    for key in ("audit_file", "votes_file", "sessions_file"):
        path: Path | None = getattr(settings, key)
        if path is not None and (problem := _problem(path, is_database=key == "sessions_file")) is not None:
            raise ValueError(f"serve.{key}={path}: {problem}")


def _problem(path: Path, *, is_database: bool) -> str | None:
    if path.is_dir():
        return "this is a folder. Name a file."
    if not path.exists():
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        is_usable = parent.is_dir() and os.access(parent, os.W_OK)
        return None if is_usable else f"it cannot be created below {parent}. Check that folder."
    if not os.access(path, os.R_OK | os.W_OK):
        return "it cannot be read and written. Check its permissions."
    if is_database and path.is_file():
        with path.open("rb") as file:
            begin = file.read(len(_SQLITE))
        if begin not in (b"", _SQLITE):
            return "this is not an SQLite file. Name another one, or move it away."
    return None
