"""Write files atomically or line by line, and read them back: text, JSON and JSON lines.

Whatever is read or written is valid Unicode (valid_text.py). What the files mean is defined by their callers.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mica_ray.valid_text import decoded, valid_json, valid_text

_LOG = logging.getLogger(__name__)


_LINE_ENDS = ("\x85", "\u2028", "\u2029")
"""Ends of a line for Unicode, but not for JSON lines. JSON itself escapes those among the first 32."""


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


def read_json_lines(
    path: Path, *, is_growing: bool = False, has_unique_keys: bool = False
) -> tuple[JsonLine, ...]:
    """Read a file of one JSON object per line.

    A byte order mark, Windows newlines and blank lines are accepted. Only a newline ends a line: JSON strings
    may contain U+2028, which `str.splitlines` would split at.

    Args:
        path: the file.
        is_growing: whether a run may still write to it. A missing file then has no lines, and a last line
            that is cut off is ignored with a notice.
        has_unique_keys: as for `parsed_json`.

    Raises:
        JsonFileError: the file cannot be read, or a line is not a JSON object.
    """
    if is_growing and not path.exists():
        return ()
    *complete, last = enumerate(_content(path).split(b"\n"), start=1)
    lines = [
        _json_line(path, number, line, has_unique_keys=has_unique_keys)
        for number, line in complete
        if line.strip()
    ]
    if last[1].strip():  # Without a newline: written by hand, or not completely written yet.
        try:
            lines.append(_json_line(path, *last, has_unique_keys=has_unique_keys))
        except JsonFileError:
            if not is_growing:
                raise
            _LOG.warning("%s: ignored line %d, which is not completely written yet.", path, last[0])
    return tuple(lines)


def read_text(path: Path) -> str:
    """Read a text file (valid_text.py: `decoded`).

    Raises:
        JsonFileError: the file cannot be read, or is not UTF-8.
    """
    try:
        return decoded(_content(path))
    except JsonFileError:
        raise
    except ValueError as error:
        raise JsonFileError(f"{path} cannot be read ({error}). Save it as UTF-8.") from error


def read_json(path: Path) -> Any:
    """Read a file that contains one JSON value.

    Raises:
        JsonFileError: the file cannot be read, or is not JSON.
    """
    content = _content(path)
    try:
        return parsed_json(content)
    except (ValueError, RecursionError) as error:
        raise JsonFileError(f"{path} cannot be read as JSON ({error}).") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that contains one JSON object.

    Raises:
        JsonFileError: the file cannot be read, or does not contain a JSON object.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise JsonFileError(f"{path} must contain a JSON object, got {type(found).__name__}.")
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: the path contains NUL.
        reason = error.strerror if isinstance(error, OSError) else error
        raise JsonFileError(f"{valid_text(str(path))} cannot be read ({reason}).") from error


def _json_line(path: Path, number: int, line: bytes, *, has_unique_keys: bool = False) -> JsonLine:
    try:
        fields = parsed_json(line, has_unique_keys=has_unique_keys)
    except (ValueError, RecursionError) as error:
        raise JsonFileError(
            f"{path}, line {number}: not valid JSON ({error}). Correct or delete the line."
        ) from error
    if not isinstance(fields, dict):
        raise JsonFileError(f"{path}, line {number}: must be a JSON object, got {type(fields).__name__}.")
    return JsonLine(path, number, fields)


def parsed_json(content: bytes, *, has_unique_keys: bool = False) -> Any:
    """Parse one JSON value; its texts become valid Unicode.

    Args:
        content: bytes of the file.
        has_unique_keys: whether a key that an object has twice is an error; otherwise the last one counts.

    Raises:
        ValueError: not JSON, not UTF-8, or a repeated key.
        RecursionError: nested too deeply.
    """
    text = decoded(content)
    value = json.loads(text, object_pairs_hook=_unique if has_unique_keys else None)
    # Escapes can spell half of a surrogate pair, even where the bytes are valid.
    return valid_json(value) if "\\u" in text else value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} occurs twice in one object")
        found[key] = value
    return found


def json_line(record: Mapping[str, object]) -> bytes:
    """Return a JSON object as one line, without its newline, as every reader of lines accepts it.

    NaN and infinity become null, and characters that other programs take for the end of a line are escaped.
    """
    text = json.dumps(_writable(record), ensure_ascii=False, allow_nan=False)
    for end in _LINE_ENDS:
        text = text.replace(end, f"\\u{ord(end):04x}")
    return text.encode()


def write_json(path: Path, record: Mapping[str, object]) -> None:
    """Write a JSON object atomically. NaN and infinity become null.

    Raises:
        OSError: the folder is not writable.
    """
    write_whole(path, json.dumps(_writable(record), indent=2, allow_nan=False) + "\n")


def keep_settings(path: Path, settings: Mapping[str, object]) -> tuple[str, object, object] | None:
    """Store the settings that a folder's records depend on, or compare them with the stored ones.

    Returns:
        Name, stored value and new value of the first setting that differs, in alphabetical order; None if all
        are equal, or the file did not exist.

    Raises:
        JsonFileError: the file cannot be read.
        OSError: the folder is not writable.
    """
    if not path.exists():
        write_json(path, settings)
        return None
    stored, wanted = read_json_object(path), parsed_json(json_line(settings))
    for name in sorted({*stored, *wanted}):
        if stored.get(name) != wanted.get(name):
            return name, stored.get(name), wanted.get(name)
    return None


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically and create its folder if missing.

    A reader sees the old content or the new one.

    Raises:
        OSError: the folder is not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_bytes(valid_text(content).encode() if isinstance(content, str) else content)
    os.replace(scratch, path)


def _writable(value: object) -> object:
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {valid_text(str(key)): _writable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(item) for item in value]
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

        Raises:
            JsonFileError: a complete line is not a JSON object with a step.
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
        lines = [json_line({"step": step, **row}) for row in rows]
        with self.path.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())


def _keep_before(path: Path, first_step: int) -> None:
    """Replace the file, atomically, by its complete lines of earlier steps."""
    kept: list[bytes] = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        if not line.strip():
            continue
        step = _json_line(path, number, line).fields.get("step")
        if not isinstance(step, int):
            raise JsonFileError(f"{path}, line {number}: has no step. Correct or delete the line.")
        if step < first_step:
            kept.append(line + b"\n")
    scratch = path.with_name(path.name + ".new")
    scratch.write_bytes(b"".join(kept))
    scratch.replace(path)
