"""The files of a folder that people fill: content by suffix, without what systems and editors leave there."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

from mica_ray.valid_text import valid_text

_LOG = logging.getLogger(__name__)

_SIDE_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "$recycle.bin"})
_SIDE_SUFFIXES = frozenset(
    {"lock", "lck", "swp", "swo", "swn", "swx", "tmp", "temp", "bak", "orig", "part", "partial", "crdownload"}
)
_SIDE_FORMS = ((".", ""), ("~$", ""), ("", "~"), ("#", "#"))
"""Beginnings and ends of names: hidden, opened in an office program, saved before, opened in an editor."""
_MOST_NAMES = 5
"""Names in one notice."""


def is_side_file(name: str) -> bool:
    """Whether a system or an editor left a file next to the content, by its name.

    >>> [is_side_file(name) for name in ("._a.md", "~$a.md", "a.md~", "#a.md#", "Thumbs.db", "a.swp", "a.md")]
    [True, True, True, True, True, True, False]
    """
    lower = name.casefold()
    return (
        lower in _SIDE_NAMES
        or lower.rpartition(".")[2] in _SIDE_SUFFIXES
        or any(lower.startswith(start) and lower.endswith(end) for start, end in _SIDE_FORMS)
    )


def content_files(folder: Path, *suffixes: str) -> tuple[Path, ...]:
    """Return the files of a folder with one of the suffixes, in any letter case, sorted by name.

    Side files are skipped with one notice; files with other suffixes and folders within are not looked at.

    Args:
        folder: a folder; one that does not exist has no files.
        suffixes: such as ".md".

    Raises:
        OSError: the folder cannot be read.
    """
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    side = tuple(entry.name for entry in entries if is_side_file(entry.name))
    if side:
        _notify(folder, side)
    return tuple(entry for entry in entries if entry.name not in side and entry.suffix.lower() in suffixes)


def named_file(folder: Path, name: str) -> Path:
    """Return the path of a file by its name, in any letter case; the exact name if there is no such file.

    Raises:
        ValueError: two files of the folder have this name.
    """
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [entry for entry in entries if entry.name.casefold() == name.casefold()]
    if len(found) > 1:
        raise ValueError(f"{found[0]} and {found[1]} have the same name. Remove one of them.")
    return found[0] if found else folder / name


@cache
def _notify(folder: Path, names: tuple[str, ...]) -> None:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    listed = ", ".join(names[:_MOST_NAMES])
    _LOG.warning("%s", valid_text(f"{folder}: skipped {listed}{more}, left there by a system or an editor."))
