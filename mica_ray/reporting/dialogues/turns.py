"""Figures by turn: alignment of each axis, and rewards and returns (the paper's Figure 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mica_ray.dialogue.progress import energy_direction
from mica_ray.recordings.recorded_dialogue import RecordedDialogue, by_model
from mica_ray.reporting.dialogues.layout import describe_counts
from mica_ray.reporting.drawing.canvas import (
    AXIS_COLOURS,
    AXIS_NAMES,
    MODEL_COLOURS,
    MODEL_MARKERS,
    DrawnFigure,
    finished,
    new_figure,
    panel_grid,
    plain,
    tidy,
)
from mica_ray.types import AXES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST = 5
"""Dialogues that must have reached a turn for its mean to be drawn; all of them if a model has fewer."""
_THINNED = f"Turns reached by fewer than {FEWEST} dialogues of a model are not drawn."


def turn_means(rows: Sequence[np.ndarray], *, fewest: int = FEWEST) -> tuple[np.ndarray, ...]:
    """Return mean and standard deviation of every turn over the dialogues that reached it.

    Args:
        rows: one [T_i] per dialogue, NaN where a turn was not judged.
        fewest: minimum number of values of a turn; the number of rows if that is smaller.

    Returns:
        turns [S] from 1, mean [S], population standard deviation [S], number of values [S]: the S turns
        that have enough values.
    """
    table = np.full((len(rows), max((len(row) for row in rows), default=0)), np.nan)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    found = (~np.isnan(table)).sum(axis=0)
    enough = np.flatnonzero(found >= max(1, min(fewest, len(rows))))
    chosen = table[:, enough]
    return enough + 1, np.nanmean(chosen, axis=0), np.nanstd(chosen, axis=0), found[enough]


def axis_alignments(dialogue: RecordedDialogue) -> np.ndarray:
    """Return v_tk v*_k / ||v_t|| [T, 3], the part of each axis in cos(v_t, v*).

    A turn without a move has 0, one without a judgement NaN. The parts of a turn add up to the cosine, so a
    neglected axis shows as a flat line.
    """
    moves = np.diff(dialogue.states, axis=0)
    lengths = np.linalg.norm(moves, axis=1, keepdims=True)
    if not np.any(dialogue.states[0]):
        return np.full(moves.shape, np.nan)
    parts = moves * energy_direction(dialogue.states[0]) / np.where(lengths > 0, lengths, 1.0)
    return np.where(dialogue.judged[:, None], parts, np.nan)


def alignment_figure(dialogues: Sequence[RecordedDialogue]) -> DrawnFigure:
    """Draw each axis' part in the alignment of a turn's move with the direct way to the goal, by model."""
    groups = by_model(dialogues)
    figure, panels = panel_grid(len(groups), row_height=3.2)
    for number, (model, members) in enumerate(groups.items()):
        axes = panels.flat[number]
        parts = [axis_alignments(dialogue) for dialogue in members]
        for index, key in enumerate(AXES):
            turns, mean, *_ = turn_means([part[:, index] for part in parts])
            style = ("-", "--", "-.")[index]
            label = f"{key}, {AXIS_NAMES[key]}"
            axes.plot(turns, mean, color=AXIS_COLOURS[key], linestyle=style, linewidth=1.6, label=label)
        turns, mean, *_ = turn_means([part.sum(axis=1) for part in parts])
        axes.plot(turns, mean, color="black", linewidth=2.0, label="all, cos(v, v*)")
        axes.axhline(0, color="black", linewidth=0.7)
        is_leftmost = number % panels.shape[1] == 0
        tidy(axes, x="turn", y="alignment (no unit)" if is_leftmost else "", title=plain(model))
    figure.legend(
        *panels.flat[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False
    )
    caption = (
        "Mean over dialogues of v_k v*_k / ||v||, the part of axis k in the cosine between a turn's move v "
        "and v*, the direction from the initial deficit to the origin. The parts add up to the black line. "
        f"{describe_counts(dialogues)} {_THINNED}"
    )
    return finished(figure, "alignment_by_axis", title="Alignment by axis and turn", caption=caption)


def reward_figure(dialogues: Sequence[RecordedDialogue], *, gamma: float) -> DrawnFigure:
    """Draw rewards and returns by turn with their spread (MICA, arXiv 2603.06194, Figure 3)."""
    figure = new_figure(11, 4.6)
    left, right = figure.subplots(1, 2)
    _draw_models(left, dialogues, lambda dialogue: dialogue.turn_rewards)
    _draw_models(right, dialogues, lambda dialogue: dialogue.discounted_returns(gamma))
    tidy(left, x="turn", y="reward r (points)", title="immediate reward")
    tidy(right, x="turn", y="return G (points)", title=f"return, discount {gamma:g}")
    left.legend(fontsize=8, frameon=False)
    caption = (
        "Mean over the dialogues that reached a turn. Bands: one standard deviation. Reward: as recorded "
        f"in the file, otherwise the distance closed by the turn. {describe_counts(dialogues)} {_THINNED}"
    )
    return finished(figure, "rewards_by_turn", title="Rewards and returns by turn", caption=caption)


def _draw_models(
    axes: Axes, dialogues: Sequence[RecordedDialogue], values: Callable[[RecordedDialogue], np.ndarray]
) -> None:
    for number, (model, members) in enumerate(by_model(dialogues).items()):
        turns, mean, deviation, _ = turn_means([values(dialogue) for dialogue in members])
        colour = MODEL_COLOURS[number % len(MODEL_COLOURS)]
        axes.fill_between(turns, mean - deviation, mean + deviation, color=colour, alpha=0.12, linewidth=0)
        marker = MODEL_MARKERS[number % len(MODEL_MARKERS)]
        axes.plot(turns, mean, color=colour, marker=marker, markersize=4, linewidth=1.6, label=plain(model))
    axes.axhline(0, color="black", linewidth=0.7)
