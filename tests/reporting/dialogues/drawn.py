"""Dialogues small enough to draw by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mica_ray.reporting.dialogues.drawn_dialogue import DrawnDialogue

# Zone distances 4, 1, 1: sqrt of squared excess over -1; the last move is along A, from 0 to -1.
PATH = ((-5.0, 0.0, 0.0), (-2.0, 0.0, 0.0), (-2.0, -1.0, 0.0))


def drawn(path: Sequence[Sequence[float]] = PATH, **changes: Any) -> DrawnDialogue:
    turns = len(path) - 1
    fields: dict[str, Any] = {
        "model": "m",
        "scenario": "s",
        "states": np.array(path, dtype=np.float64),
        "progress": np.zeros((turns, 3)),
        "regress": np.zeros((turns, 3)),
        "judged": np.ones(turns, bool),
        "outcome": "open",
        "dominant_axis": "C",
    }
    return DrawnDialogue(**(fields | changes))
