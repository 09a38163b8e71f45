"""Recorded dialogues built from a state path, without a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mica_ray.files import JsonLine
from mica_ray.recordings.recorded_dialogue import RecordedDialogue


def make_dialogue(path: Sequence[Sequence[float]], **changes: Any) -> RecordedDialogue:
    """A dialogue of our own with this state path [T+1, 3], all turns judged, no training values."""
    num_turns = len(path) - 1
    unrecorded = np.full(num_turns, np.nan)
    fields: dict[str, Any] = {
        "line": JsonLine(Path("dialogues.jsonl"), 1, {}),
        "form": "own",
        "model": "m",
        "scenario": "s",
        "states": np.array(path, dtype=np.float64),
        "progress": np.zeros((num_turns, 3)),
        "regress": np.zeros((num_turns, 3)),
        "judged": np.ones(num_turns, bool),
        "rewards": unrecorded,
        "returns": unrecorded,
        "advantages": unrecorded,
        "reply_tokens": unrecorded,
        "dominant_axis": "C",
    }
    return RecordedDialogue(**(fields | changes))
