"""Fields of one recorded JSON object, read with checks."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mica_ray.files import JsonLine
from mica_ray.recordings.recorded_dialogue import RecordingError


def error_at(line: JsonLine, problem: str) -> RecordingError:
    """Return an error that names the file and the line."""
    return RecordingError(f"{line.place}: {problem}")


def text_of(line: JsonLine, *names: str) -> str:
    """Return the first of these fields that has a non-blank text, empty when none has."""
    found = (line.fields.get(name) for name in names)
    return next((value for value in found if isinstance(value, str) and value.strip()), "")


def number_of(value: object) -> float | None:
    """Return a finite number; None for anything else, including booleans, NaN and the infinities."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def whole_number_of(value: object) -> int | None:
    """Return a finite number without its decimals; None for anything else."""
    number = number_of(value)
    return None if number is None else int(number)


def state_of(value: object) -> list[float] | None:
    """Return three finite numbers; None for anything else."""
    if not isinstance(value, list) or len(value) != 3:
        return None
    numbers = [number_of(item) for item in value]
    return None if None in numbers else [number or 0.0 for number in numbers]


def level_of(value: object, allowed: tuple[int, ...]) -> int | None:
    """Return a level of the scale, also from text ("1"); None for anything else."""
    if isinstance(value, str):
        return next((level for level in allowed if value.strip() == str(level)), None)
    number = number_of(value)
    return int(number) if number is not None and number in allowed else None


def objects_of(line: JsonLine, field: str) -> list[Mapping[str, object]]:
    """Return a field that must be a list of JSON objects.

    Raises:
        RecordingError: an entry is not an object.
    """
    items = line.fields[field]
    assert isinstance(items, list), "the format was recognized by this field"
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise error_at(line, f"field {field!r}: entry {index} must be an object, got {quoted(item)}.")
    return items


def quoted(value: object) -> str:
    """Return the repr of a value, cut to 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def level_rows(rows: list[list[int]]) -> np.ndarray:
    """Return levels as [T, 3] float64, also for T = 0."""
    return np.array(rows, dtype=np.float64).reshape(-1, 3)
