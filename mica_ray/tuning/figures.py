"""Figures of a sweep as PNG: the metric by cell with its interval, and the learning curves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.files import write_whole
from mica_ray.reporting.drawing.canvas import (
    BLUE,
    GREY,
    DrawnFigure,
    finished,
    new_figure,
    plain,
    tidy,
)
from mica_ray.reporting.drawing.run_curves import draw_runs
from mica_ray.tuning.sweep import Sweep
from mica_ray.tuning.sweep_result import CellRow, SweepResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_CURVES = 6
"""Number of cells drawn in their own colours; the others are grey."""


def write_figures(sweep: Sweep, outcome: SweepResult, folder: Path) -> tuple[Path, ...]:
    """Draw the figures for which there are scores, and return their files."""
    drawn = [figure for figure in (metric_by_cell(sweep, outcome), learning_curves(sweep, outcome)) if figure]
    for figure in drawn:
        write_whole(folder / f"{figure.name}.png", figure.png())
    return tuple(folder / f"{figure.name}.png" for figure in drawn)


def metric_by_cell(sweep: Sweep, outcome: SweepResult) -> DrawnFigure | None:
    """Draw each cell's interquartile mean with its interval; None if no cell has one."""
    rows = [row for row in outcome.rows if not math.isnan(row.middle.estimate)]
    if not rows:
        return None
    figure = new_figure(7.0, 1.6 + 0.42 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        middle = row.middle
        colour = GREY if row.cell.name == outcome.reference else BLUE
        axes.plot([middle.low, middle.high], [place, place], color=colour, linewidth=2.2)
        axes.plot(middle.estimate, place, "o", color=colour, markersize=7)
    axes.set_yticks(range(len(rows)), [plain(row.cell.name) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    tidy(axes, x=sweep.metric, y="")
    seeds = ", ".join(str(row.trials.get("finished", 0)) for row in rows)
    return finished(
        figure,
        "metric_by_cell",
        title=_escaped_question(sweep),
        caption=f"Dots: interquartile mean over seeds and cases. Lines: 95 % stratified bootstrap intervals. "
        f"Grey: the reference cell. Finished trials per cell, from top to bottom: {seeds}.",
    )


def learning_curves(sweep: Sweep, outcome: SweepResult) -> DrawnFigure | None:
    """Draw the sweep's curve metric by step, mean and range over seeds; None without a step."""
    rows = [row for row in outcome.rows if any(row.curves)]
    if not rows:
        return None
    figure = new_figure(7.0, 4.4)
    axes = figure.subplots()
    for number, row in enumerate(rows):
        _draw_curve(axes, row, number)
    tidy(axes, x="step", y=sweep.curve)
    axes.legend(fontsize=8, frameon=False)
    caption = (
        "Lines: mean over the trials of a cell. Bands: range from the lowest to the highest trial. A step is "
        "drawn if all started trials of the cell have done it."
    )
    return finished(figure, "learning_curves", title=_escaped_question(sweep), caption=caption)


def _escaped_question(sweep: Sweep) -> str:
    """Return the question with `$` and backslash escaped for matplotlib."""
    return sweep.question.replace("\\", "/").replace("$", r"\$")


def _draw_curve(axes: Axes, row: CellRow, number: int) -> None:
    draw_runs(axes, row.curves, name=row.cell.name, number=number if number < _MOST_CURVES else None)
