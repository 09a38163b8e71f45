"""Figures of models: EPM-Q by training step, its components, and the paper's Figures 4 and 5.

Each model has the colour of its row in all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mica_ray.reporting.dialogues.models import alignment_score_figure, success_figure
from mica_ray.reporting.drawing.canvas import (
    MODEL_COLOURS,
    DrawnFigure,
    finished,
    new_figure,
    plain,
    tidy,
    value_and_ends,
)
from mica_ray.reporting.drawing.run_curves import draw_runs
from mica_ray.reporting.models.columns import SEED
from mica_ray.reporting.models.results import EMPA, INDEX_GROUPS, ModelResults
from mica_ray.statistics import bootstrap_mean
from mica_ray.types import AXES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 0.8
"""Width of the bars of one component together; 1 is the distance between components."""


def model_figures(models: Sequence[ModelResults]) -> tuple[DrawnFigure, ...]:
    """Draw the figures for which there are results; models without any are left out."""
    drawn = [learning_and_components(models)]
    dialogues = [
        replace(dialogue, model=model.name)
        for model in models
        for result in model.of(EMPA)
        for dialogue in result.drawable
    ]
    if dialogues:
        drawn.append(alignment_score_figure(dialogues))
        with_axis = [dialogue for dialogue in dialogues if dialogue.dominant_axis in AXES]
        drawn += [success_figure(with_axis)] if with_axis else []
    return tuple(figure for figure in drawn if figure is not None)


def learning_and_components(models: Sequence[ModelResults]) -> DrawnFigure | None:
    """Draw EPM-Q by training step, and the components of EPM-Q; None if no model has either."""
    trained = [(number, model) for number, model in enumerate(models) if any(model.curves)]
    scored = [(number, model) for number, model in enumerate(models) if model.item_means(EMPA, "epm_q")]
    if not trained and not scored:
        return None
    figure = new_figure(11.0, 4.6)
    left, right = figure.subplots(1, 2)
    for number, model in trained:
        draw_runs(left, model.curves, name=model.name, number=number)
    tidy(left, x="training step", y="EPM-Q of an evaluation", title="score by training step")
    _draw_components(right, scored)
    tidy(right, x="", y="mean of its three indices", title="components of EPM-Q")
    right.grid(visible=False, axis="x")
    for axes, shown in ((left, trained), (right, scored)):
        if shown:
            axes.legend(fontsize=8, frameon=False)
        else:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "no results", transform=axes.transAxes, ha="center", color="#444444")
    return finished(
        figure,
        "figures",
        title="EMPA by model",
        caption="Left: mean over the runs of a model at the steps that all of them evaluated; bands: range "
        "of the runs. Right: outcome (RDI, Etot, Snet), efficiency (Rho, Sproj, Tau) and stability (Rpos, "
        "Align, Pen) count 0.4, 0.2 and 0.4 in EPM-Q; lines: 95 % bootstrap intervals over cases.",
    )


def _draw_components(axes: Axes, scored: Sequence[tuple[int, ModelResults]]) -> None:
    width = _WIDTH / max(1, len(scored))
    for row, (number, model) in enumerate(scored):
        colour = MODEL_COLOURS[number % len(MODEL_COLOURS)]
        for index, name in enumerate(INDEX_GROUPS):
            place = index + (row - (len(scored) - 1) / 2) * width
            mean = bootstrap_mean(list(model.item_means(EMPA, name).values()), seed=SEED)
            value, ends = value_and_ends(mean)
            axes.bar(
                place, value, 0.92 * width, color=colour, label=plain(model.name) if index == 0 else None
            )
            axes.errorbar(place, value, yerr=ends, color="black", capsize=2, linewidth=0.9, fmt="none")
    axes.set_xticks(range(len(INDEX_GROUPS)), list(INDEX_GROUPS))
