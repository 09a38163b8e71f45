"""Files of recorded dialogues as checked JSON objects, and which of the known formats they are in.

What the objects mean is read in recorded_paths.py and recorded_emotion.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["run", "own", "emotion"]
"""run: published EMPA runs, a judged state path a line. own: our dialogues.jsonl. emotion: SAGE dialogues."""

NEEDED: Mapping[Format, tuple[str, ...]] = {
    "run": ("trajectory",),
    "own": ("initial_state", "turns"),
    "emotion": ("history",),
}
"""The fields by which a format is known."""


class RecordingError(ValueError):
    """A file of dialogues that cannot be scored; the message names the file, the line and what it lacks."""


@dataclass(frozen=True, slots=True)
class Line:
    """One recorded dialogue as it stands in its file."""

    path: Path
    number: int
    """1 for the first line."""
    fields: Mapping[str, object]

    def error(self, problem: str) -> RecordingError:
        """Give the error that says where the problem is."""
        return RecordingError(f"{self.path}, line {self.number}: {problem}")

    def text(self, *names: str) -> str:
        """Give the first of these fields that holds a text, empty when none does."""
        found = (self.fields.get(name) for name in names)
        return next((value for value in found if isinstance(value, str) and value.strip()), "")


def read_lines(path: Path) -> tuple[Line, ...]:
    """Read a file of one JSON object a line; a byte order mark, Windows newlines and blank lines are fine.

    Raises:
        RecordingError: the file cannot be read, is empty, or a line is no JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecordingError(f"{path}: cannot be read as UTF-8 text ({reason})") from error
    lines: list[Line] = []
    # Not splitlines(): JSON texts may hold U+2028, which it takes for the end of a line.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields: object = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RecordingError(
                f"{path}, line {number}: is no JSON ({error}); mend or drop the line"
            ) from error
        if not isinstance(fields, dict):
            kind = type(fields).__name__
            raise RecordingError(f"{path}, line {number}: must be a JSON object; got a {kind}")
        lines.append(Line(path, number, fields))
    if not lines:
        raise RecordingError(f"{path}: holds no dialogue; expected one JSON object a line")
    return tuple(lines)


def format_of(lines: Sequence[Line]) -> Format:
    """Tell the format of a file by what its lines hold.

    Raises:
        RecordingError: a line is in no known format, or in another one than the first.
    """
    found = _format(lines[0])
    for line in lines[1:]:
        if (other := _format(line)) != found:
            raise line.error(f"is in format {other}, but line {lines[0].number} in format {found}")
    return found


def _format(line: Line) -> Format:
    for name, needed in NEEDED.items():
        if all(isinstance(line.fields.get(field), list) for field in needed):
            return name
    lacks = "; ".join(
        f"{name} needs {' and '.join(field for field in needed if not _is_list(line, field))}"
        for name, needed in NEEDED.items()
    )
    held = ", ".join(sorted(line.fields)) or "nothing"
    raise line.error(f"is in no known format: {lacks} (each a list); it holds {held}")


def _is_list(line: Line, field: str) -> bool:
    return isinstance(line.fields.get(field), list)


def number_of(value: object) -> float | None:
    """Give a finite number, None for anything else: to Python True is 1, and json reads Infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def shown(value: object) -> str:
    """Show a value of a file, short enough for one line."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
