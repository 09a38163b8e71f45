"""Figures of single paths: the state on three axes with projections, and the distance by turn."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from mica_ray.recordings.recorded_dialogue import RecordedDialogue, by_model
from mica_ray.reporting.dialogues.layout import (
    OUTCOME_COLOURS,
    OUTCOME_MARKERS,
    OUTCOME_NAMES,
    describe_counts,
    describe_thinning,
    evenly_spaced,
)
from mica_ray.reporting.drawing.canvas import (
    AXIS_NAMES,
    DrawnFigure,
    finished,
    new_figure,
    panel_grid,
    plain,
    tidy,
)
from mica_ray.types import AXES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OUTCOMES = ("open", "failure", "success")
"""In drawing order; the last is usually the rarest, so it is drawn on top."""


def state_path_figure(dialogues: Sequence[RecordedDialogue]) -> DrawnFigure:
    """Draw every state path in three dimensions and in its three projections, one row per model."""
    groups = by_model(dialogues)
    figure = new_figure(15, 3.4 * len(groups) + 0.9)
    grid = figure.add_gridspec(len(groups), 4, width_ratios=(1.5, 1, 1, 1))
    limits = _limits(dialogues)
    for row, (model, members) in enumerate(groups.items()):
        shown = sorted(evenly_spaced(members), key=lambda dialogue: _OUTCOMES.index(dialogue.outcome))
        _draw_space(figure.add_subplot(grid[row, 0], projection="3d"), shown, limits, plain(model))
        for column, (first, second) in enumerate(combinations(range(3), 2), start=1):
            axes = figure.add_subplot(grid[row, column])
            for dialogue in shown:
                _draw_path(axes, dialogue.states[:, [first, second]], dialogue)
            axes.axhline(0, color="black", linewidth=0.7)
            axes.axvline(0, color="black", linewidth=0.7)
            axes.plot([0], [0], marker="*", color="black", markersize=11, linestyle="none", zorder=6)
            axes.set(xlim=limits[first], ylim=limits[second])
            tidy(axes, x=_axis_label(first), y=_axis_label(second))
    _legend(figure, dialogues)
    caption = (
        f"State paths of single dialogues. {describe_counts(dialogues)}{describe_thinning(dialogues)} Small "
        "dot: the initial deficit P_0. End marker: outcome of the dialogue. Star: the origin, where all "
        "needs are met. Points are whole numbers, so paths overlap."
    )
    title = "State paths on the three need axes, and their projections"
    return finished(figure, "state_paths", title=title, caption=caption)


def distance_figure(dialogues: Sequence[RecordedDialogue]) -> DrawnFigure:
    """Draw the remaining distance by turn, marked by outcome, one panel per model."""
    groups = by_model(dialogues)
    figure, panels = panel_grid(len(groups), row_height=3.4)
    panels[0, 0].set_ylim(0, 1.05 * max(1.0, *(float(one.distances.max()) for one in dialogues)))
    for number, (model, members) in enumerate(groups.items()):
        axes = panels.flat[number]
        for dialogue in sorted(evenly_spaced(members), key=lambda one: _OUTCOMES.index(one.outcome)):
            distances = dialogue.distances
            _draw_path(axes, np.column_stack([np.arange(len(distances)), distances]), dialogue, start=False)
        tidy(axes, x="turn", y="distance D (points)" if number % panels.shape[1] == 0 else "")
        passed = sum(dialogue.outcome == "success" for dialogue in members)
        axes.set_title(f"{plain(model)}: {passed} of {len(members)} succeed", fontsize=10)
    _legend(figure, dialogues)
    caption = (
        f"Distance after every turn to the zone in which needs count as met; turn 0 is the initial deficit. "
        f"{describe_counts(dialogues)}{describe_thinning(dialogues)} End marker: outcome of the dialogue."
    )
    return finished(figure, "distance_by_turn", title="Distance by turn", caption=caption)


def _limits(dialogues: Sequence[RecordedDialogue]) -> list[tuple[float, float]]:
    """Return the range of each axis over all models and the origin, so that rows are comparable."""
    points = np.concatenate([dialogue.states for dialogue in dialogues])
    lows, highs = np.minimum(points.min(axis=0), 0), np.maximum(points.max(axis=0), 0)
    margins = 0.05 * np.maximum(highs - lows, 1.0)
    return [(float(low), float(high)) for low, high in zip(lows - margins, highs + margins, strict=True)]


def _draw_space(
    axes: Any, shown: Sequence[RecordedDialogue], limits: Sequence[tuple[float, float]], title: str
) -> None:
    from matplotlib.ticker import MaxNLocator

    for dialogue in shown:
        _draw_path(axes, dialogue.states, dialogue)
    axes.plot([0], [0], [0], marker="*", color="black", markersize=11, linestyle="none")
    axes.set(xlim=limits[0], ylim=limits[1], zlim=limits[2])
    axes.set_xlabel("C (points)", fontsize=9, labelpad=-2)
    axes.set_ylabel("A (points)", fontsize=9, labelpad=-2)
    axes.set_zlabel("P (points)", fontsize=9, labelpad=-4)
    axes.tick_params(labelsize=7, pad=-2)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_major_locator(MaxNLocator(5))
    axes.set_box_aspect((1, 1, 0.85), zoom=0.95)
    axes.view_init(elev=24, azim=-58)
    axes.set_title(f"{title} (n = {len(shown)})", fontsize=10)


def _draw_path(axes: Any, points: np.ndarray, dialogue: RecordedDialogue, *, start: bool = True) -> None:
    """Draw one line with its end marker as one `Line2D`; points are [T+1, 2] or [T+1, 3]."""
    colour = OUTCOME_COLOURS[dialogue.outcome]
    axes.plot(
        *points.T,
        color=colour,
        linewidth=0.9,
        alpha=0.6,
        marker=OUTCOME_MARKERS[dialogue.outcome],
        markevery=[len(points) - 1],
        markersize=5.5,
        markeredgecolor="white",
        markeredgewidth=0.5,
        label=dialogue.scenario,
    )
    if start:
        axes.plot(*points[:1].T, marker=".", color=colour, markersize=4, linestyle="none", alpha=0.8)


def _axis_label(axis: int) -> str:
    return f"{AXES[axis]}, {AXIS_NAMES[AXES[axis]]} (points)"


def _legend(figure: Figure, dialogues: Sequence[RecordedDialogue]) -> None:
    """Add a legend of the outcomes that occur."""
    from matplotlib.lines import Line2D

    found = {dialogue.outcome for dialogue in dialogues}
    handles = [
        Line2D([], [], color=OUTCOME_COLOURS[one], marker=OUTCOME_MARKERS[one], label=OUTCOME_NAMES[one])
        for one in reversed(_OUTCOMES)
        if one in found
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
