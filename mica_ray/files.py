"""Write files atomically or line by line, and read them back: text, JSON and JSON lines.

What the files mean is defined by their callers.
"""

from __future__ import annotations

import codecs
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class JsonFileError(ValueError):
    """A file or line that is not the JSON we expect; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class JsonLine:
    """One object of a file of JSON lines, and where it comes from."""

    path: Path
    number: int
    """Starts at 1; blank lines count."""
    fields: Mapping[str, Any]

    @property
    def place(self) -> str:
        """File and line, as error messages name them."""
        return f"{self.path}, line {self.number}"


def read_json_lines(path: Path, *, is_growing: bool = False) -> tuple[JsonLine, ...]:
    """Read a file of one JSON object per line.

    A byte order mark, Windows newlines and blank lines are accepted. Only a newline ends a line: JSON strings
    may contain U+2028, which `str.splitlines` would split at.

    Args:
        path: the file.
        is_growing: whether a run may still write to it. A missing file then has no lines, and a last line
            that is cut off is ignored.

    Raises:
        JsonFileError: the file cannot be read, or a line is not a JSON object.
    """
    if is_growing and not path.exists():
        return ()
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise JsonFileError(f"{path} cannot be read ({error.strerror}).") from error
    *complete, last = enumerate(content.split(b"\n"), start=1)
    lines = [_json_line(path, number, line) for number, line in complete if line.strip()]
    if last[1].strip():
        try:
            lines.append(_json_line(path, *last))
        except JsonFileError:
            if not is_growing:
                raise
    return tuple(lines)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that contains one JSON object.

    Raises:
        JsonFileError: the file cannot be read, or does not contain a JSON object.
    """
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise JsonFileError(f"{path} cannot be read as JSON ({reason}).") from error
    if not isinstance(found, dict):
        raise JsonFileError(f"{path} must contain a JSON object, got {type(found).__name__}.")
    return found


def _json_line(path: Path, number: int, line: bytes) -> JsonLine:
    try:
        fields: object = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise JsonFileError(
            f"{path}, line {number}: not valid JSON ({error}). Correct or delete the line."
        ) from error
    if not isinstance(fields, dict):
        raise JsonFileError(f"{path}, line {number}: must be a JSON object, got {type(fields).__name__}.")
    return JsonLine(path, number, fields)


def write_json(path: Path, record: Mapping[str, object]) -> None:
    """Write a JSON object atomically. NaN and infinity become null.

    Raises:
        OSError: the folder is not writable.
    """
    write_whole(path, json.dumps(_without_nan(record), indent=2, allow_nan=False) + "\n")


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically and create its folder if missing.

    A reader sees the old content or the new one.

    Raises:
        OSError: the folder is not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(scratch, path)


def _without_nan(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value


def mend_lines(path: Path) -> None:
    """Prepare a file for more lines.

    Create it if missing, and remove a last line that a crash left incomplete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def append_line(path: Path, line: bytes, *, synced: bool = False) -> None:
    """Append one line in a single write, so that concurrent writers never mix their lines.

    Args:
        path: the file.
        line: the line without its newline.
        synced: whether to wait until the line is on the disk.
    """
    with path.open("ab", buffering=0) as file:
        file.write(line + b"\n")
        if synced:
            os.fsync(file.fileno())


class StepLog:
    """A file of JSON lines, each with a "step".

    Each step appears exactly once, even after a crash and a resume.
    """

    def __init__(self, path: Path, *, first_step: int = 0) -> None:
        """Open the file for steps from `first_step` on.

        Args:
            path: the file, created with its folder if missing.
            first_step: remove the lines of this step and of later ones, which will be written again, and an
                incomplete last line.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _keep_before(path, first_step)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Read the rows of the file."""
        for line in read_json_lines(self.path, is_growing=True):
            yield dict(line.fields)

    def append(self, step: int, rows: Iterable[Mapping[str, object]]) -> None:
        """Append the rows of a step and wait until they are on the disk.

        "step" is the first key of each row. NaN and infinity become null.
        """
        numbered = (_without_nan({"step": step, **row}) for row in rows)
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in numbered]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())


def _keep_before(path: Path, first_step: int) -> None:
    """Replace the file, atomically, by its complete lines of earlier steps."""
    kept: list[bytes] = []
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        if json.loads(line)["step"] < first_step:
            kept.append(line)
    scratch = path.with_name(path.name + ".new")
    scratch.write_bytes(b"".join(kept))
    scratch.replace(path)
