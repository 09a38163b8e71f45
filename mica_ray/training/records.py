"""JSON lines that grow with a run and shrink to a checkpoint: every step once, whatever was killed when."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


class StepRecords:
    """A file of JSON lines, each with a "step". Consumes rows, waits for the disk."""

    def __init__(self, path: Path, *, first_step: int = 0) -> None:
        """Open the file for steps from `first_step` on.

        Args:
            path: made when missing, together with its folder.
            first_step: lines of this step and later ones are dropped, as is a line cut short: those steps
                come again.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _keep_before(path, first_step)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Give the rows that are in the file."""
        if self.path.exists():
            with self.path.open(encoding="utf-8") as file:
                yield from map(json.loads, file)

    def append(self, step: int, rows: Iterable[Mapping[str, object]]) -> None:
        """Write the rows of a step, "step" first, and flush them to the disk.

        What is no finite number becomes null: JSON knows neither NaN nor infinity.
        """
        lines = [
            json.dumps({"step": step, **_finite(row)}, ensure_ascii=False, allow_nan=False) for row in rows
        ]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())


def _finite(row: Mapping[str, object]) -> dict[str, object]:
    """Put null for every float of a row that JSON cannot write, at any depth."""
    return {key: _finite_value(value) for key, value in row.items()}


def _finite_value(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite_value(item) for key, item in value.items()}
    return [_finite_value(item) for item in value] if isinstance(value, list | tuple) else value


def _keep_before(path: Path, first_step: int) -> None:
    """Rewrite the file with the whole lines of earlier steps only, by a rename."""
    kept: list[bytes] = []
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        if json.loads(line)["step"] < first_step:
            kept.append(line)
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(b"".join(kept))
    beside.replace(path)
