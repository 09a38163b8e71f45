"""All figures of a set of dialogues, written as PNG files and as one self-contained page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mica_ray.checks import within
from mica_ray.files import write_whole
from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.reporting.dialogues.models import alignment_score_figure, comparison_figure, success_figure
from mica_ray.reporting.dialogues.page import html_report
from mica_ray.reporting.dialogues.paths import distance_figure, state_path_figure
from mica_ray.reporting.dialogues.turns import alignment_figure, reward_figure
from mica_ray.reporting.drawing.canvas import DrawnFigure

REPORT_NAME = "figures.html"
GAMMA = 0.85
"""Discount of the returns, as in the MICA code."""

Draw = Callable[[Sequence[RecordedDialogue]], DrawnFigure]


def figure_makers(gamma: float = GAMMA) -> tuple[Draw, ...]:
    """Return the functions that draw the figures, in the order of the page."""
    return (
        comparison_figure,
        success_figure,
        alignment_score_figure,
        lambda dialogues: reward_figure(dialogues, gamma=gamma),
        distance_figure,
        alignment_figure,
        state_path_figure,
    )


def write_figures(
    dialogues: Sequence[RecordedDialogue],
    folder: Path,
    *,
    gamma: float = GAMMA,
    num_left_out: int = 0,
    progress: Callable[[str], None] | None = None,
) -> tuple[Path, ...]:
    """Write every figure as PNG, and a page with all figures and dialogues.

    Files are written under another name and renamed, so that no incomplete file is visible.

    Args:
        dialogues: at least one.
        folder: created when missing; files of the same names are replaced.
        gamma: discount of the returns, in [0, 1].
        num_left_out: number of dialogues that could not be drawn, for the page.
        progress: called with the name of each file after it is written.

    Returns:
        The files, the page last.

    Raises:
        ValueError: there are no dialogues, or gamma is outside [0, 1].
        OSError: the folder cannot be written.
    """
    if not dialogues:
        raise ValueError("There are no dialogues to draw.")
    within(0, 1, gamma=gamma)
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    pictures: list[tuple[DrawnFigure, bytes]] = []

    def write(name: str, content: str | bytes) -> None:
        write_whole(folder / name, content)
        paths.append(folder / name)
        if progress is not None:
            progress(name)

    for draw in figure_makers(gamma):
        drawn = draw(dialogues)
        pictures.append((drawn, drawn.png()))
        write(f"{drawn.name}.png", pictures[-1][1])
    write(REPORT_NAME, html_report(dialogues, pictures, num_left_out=num_left_out))
    return tuple(paths)
