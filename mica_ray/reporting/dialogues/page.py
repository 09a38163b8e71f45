"""The page of `mica report figures`: pictures, scores and dialogues, without scripts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from mica_ray.evaluation.epm_q import INDEX_NAMES, scores_of
from mica_ray.recordings.recorded_dialogue import RecordedDialogue, by_model
from mica_ray.reporting.dialogues.layout import OUTCOME_NAMES
from mica_ray.reporting.drawing.canvas import DrawnFigure
from mica_ray.reporting.drawing.page import Section, page, picture, rendered, table
from mica_ray.types import AXES

MOST_TALKS = 200
"""Maximum number of dialogues with text in the page, so that browsers can open it."""


def html_report(
    dialogues: Sequence[RecordedDialogue],
    pictures: Sequence[tuple[DrawnFigure, bytes]],
    *,
    num_left_out: int = 0,
) -> str:
    """Return the page as HTML.

    Args:
        dialogues: dialogues whose scores and texts the page shows.
        pictures: figures and their PNG.
        num_left_out: dialogues that could not be drawn.
    """
    lost = f" {num_left_out} more failed or were empty and are left out." if num_left_out else ""
    sections = [Section("Scores", _scores(dialogues)), Section("Figures", _pictures(pictures))]
    spoken = [dialogue for dialogue in dialogues if dialogue.talk]
    if spoken:
        sections.append(Section("Dialogues", _talks(spoken)))
    return page("Dialogues in figures", sections, lead=f"{len(dialogues)} dialogues.{lost}")


def _pictures(pictures: Sequence[tuple[DrawnFigure, bytes]]) -> Markup:
    return Markup().join(
        picture(png, title=figure.title, caption=figure.caption.replace(r"\$", "$"))
        for figure, png in pictures
    )


def _scores(dialogues: Sequence[RecordedDialogue]) -> Markup:
    """Return a table of the scores, one row per model."""
    rows: list[list[str]] = []
    for model, members in by_model(dialogues).items():
        scores = scores_of(members)
        passed = sum(one.outcome == "success" for one in members)
        means = [
            f"{np.mean([getattr(score, name) for score in scores]):.1f}" if scores else "n/a"
            for name in ("score", *INDEX_NAMES)
        ]
        rows.append([model, str(len(members)), str(passed), *means])
    return table(["model", "dialogues", "success", "EPM-Q", *INDEX_NAMES], rows)


def _talks(spoken: Sequence[RecordedDialogue]) -> Markup:
    note = f"The first {MOST_TALKS} of {len(spoken)} dialogues." if len(spoken) > MOST_TALKS else ""
    talks = [{"summary": _summary(one), "turns": _turns(one)} for one in spoken[:MOST_TALKS]]
    return rendered("talks.html", {"note": note, "talks": talks})


def _summary(dialogue: RecordedDialogue) -> str:
    distances = dialogue.distances
    return (
        f"{dialogue.model} · {dialogue.scenario} · {len(distances) - 1} turns · "
        f"{OUTCOME_NAMES[dialogue.outcome]} · distance {distances[0]:.1f} to {distances[-1]:.1f}"
    )


def _turns(dialogue: RecordedDialogue) -> list[dict[str, str]]:
    """Return the cells of each turn's row."""
    rewards, judged = dialogue.turn_rewards, dialogue.judged
    return [
        {
            "turn": str(turn + 1),
            "user": user,
            "reply": reply,
            "levels": _levels(dialogue, turn) if judged[turn] else "",
            "reward": f"{rewards[turn]:+.2f}" if judged[turn] else "not judged",
        }
        for turn, (user, reply) in enumerate(dialogue.talk[: len(rewards)])
    ]


def _levels(dialogue: RecordedDialogue, turn: int) -> str:
    pairs = zip(AXES, dialogue.progress[turn], dialogue.regress[turn], strict=True)
    return " ".join(f"{axis}\u00a0{up:+.0f}/\u2212{-down:.0f}" for axis, up, down in pairs)
