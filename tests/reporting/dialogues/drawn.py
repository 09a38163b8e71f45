"""Dialogues small enough to draw by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mica_ray.recordings.recorded_dialogue import DialogueOutcome, RecordedDialogue
from tests.recordings.made_dialogues import make_dialogue

# Zone distances 4, 1, 1: sqrt of squared excess over -1; the last move is along A, from 0 to -1.
PATH = ((-5.0, 0.0, 0.0), (-2.0, 0.0, 0.0), (-2.0, -1.0, 0.0))
ENDINGS = {"success": "success", "failure": "collapse", "open": "limit"}


def drawn(
    path: Sequence[Sequence[float]] = PATH, *, outcome: DialogueOutcome = "open", **changes: Any
) -> RecordedDialogue:
    ending = {"ending": ENDINGS[outcome], "is_success": outcome == "success"}
    return make_dialogue(path, **(ending | changes))
