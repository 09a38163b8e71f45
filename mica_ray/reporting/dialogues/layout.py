"""What figures of dialogues share: marks of outcomes, the choice of paths to draw, sentences of captions."""

from __future__ import annotations

from collections.abc import Sequence

from mica_ray.recordings.recorded_dialogue import DialogueOutcome, RecordedDialogue, by_model
from mica_ray.reporting.drawing.canvas import BLUE, GREY, VERMILION, plain

OUTCOME_COLOURS: dict[DialogueOutcome, str] = {"success": BLUE, "failure": VERMILION, "open": GREY}
OUTCOME_MARKERS: dict[DialogueOutcome, str] = {"success": "o", "failure": "X", "open": "s"}
OUTCOME_NAMES: dict[DialogueOutcome, str] = {
    "success": "success",
    "failure": "failure",
    "open": "neither (limit)",
}
MOST_PATHS = 200
"""Maximum number of paths drawn per model; more would hide each other."""


def describe_counts(dialogues: Sequence[RecordedDialogue]) -> str:
    """Return the number of dialogues per model and of turns without a judgement, as caption text."""
    groups = by_model(dialogues)
    listed = ", ".join(f"{plain(model)} {len(members)}" for model, members in groups.items())
    lost = sum(int((~dialogue.judged).sum()) for dialogue in dialogues)
    text = f"n = {len(dialogues)} dialogues ({listed})."
    if not lost:
        return text
    return f"{text} {lost} turns have no judgement: their state is unchanged, and no mean includes them."


def evenly_spaced(dialogues: Sequence[RecordedDialogue]) -> list[RecordedDialogue]:
    """Return at most `MOST_PATHS` dialogues, evenly spaced in the order of the file."""
    if len(dialogues) <= MOST_PATHS:
        return list(dialogues)
    return [dialogues[number * len(dialogues) // MOST_PATHS] for number in range(MOST_PATHS)]


def describe_thinning(dialogues: Sequence[RecordedDialogue]) -> str:
    """Return a sentence for the caption if not every path is drawn, otherwise an empty text."""
    most = max(len(members) for members in by_model(dialogues).values())
    return f" At most {MOST_PATHS} paths per model are drawn, evenly spaced." if most > MOST_PATHS else ""
