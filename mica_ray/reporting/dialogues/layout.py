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
"""Paths drawn per model in the figures that draw each one: more would be a blot."""


def counts(dialogues: Sequence[RecordedDialogue]) -> str:
    """Say how many dialogues a figure shows, by model, and what is missing among their turns."""
    groups = by_model(dialogues)
    listed = ", ".join(f"{plain(model)} {len(members)}" for model, members in groups.items())
    lost = sum(int((~dialogue.judged).sum()) for dialogue in dialogues)
    text = f"n = {len(dialogues)} dialogues ({listed})."
    return (
        f"{text} {lost} turns have no judgement: the state stands still and they enter no mean."
        if lost
        else text
    )


def some_of(dialogues: Sequence[RecordedDialogue]) -> list[RecordedDialogue]:
    """Give at most `MOST_PATHS` dialogues, evenly spaced through the file."""
    if len(dialogues) <= MOST_PATHS:
        return list(dialogues)
    return [dialogues[number * len(dialogues) // MOST_PATHS] for number in range(MOST_PATHS)]


def drawn_share(dialogues: Sequence[RecordedDialogue]) -> str:
    """Say so when not every path is drawn; empty otherwise."""
    most = max(len(members) for members in by_model(dialogues).values())
    return f" At most {MOST_PATHS} paths per model are drawn, evenly spaced." if most > MOST_PATHS else ""
