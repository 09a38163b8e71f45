"""Figures of a comparison of simulated users with people: distances, and means by message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mica_ray.reporting.drawing.canvas import (
    GREY,
    MODEL_COLOURS,
    MODEL_MARKERS,
    DrawnFigure,
    finished,
    new_figure,
    plain,
    tidy,
)
from mica_ray.reporting.drawing.line_chart import Curve, LineChart, Panel
from mica_ray.simulators.comparison import SimulatorQuality, turn_means
from mica_ray.simulators.measures import MEASURES
from mica_ray.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOWEST, _HIGHEST = 0.1, 1000.0
"""Limits of the axis of ratios, in multiples of the yardstick."""


def distance_figure(quality: SimulatorQuality) -> DrawnFigure:
    """Draw the ratio of every measure, and the band in which two halves of the people are apart."""
    figure = new_figure(8.0, 1.6 + 0.55 * len(MEASURES))
    axes = figure.subplots()
    for place, gap in enumerate(quality.simulated[0].gaps):
        if np.isfinite(gap.people_ratio.low):
            low, _, high = _drawn(gap.people_ratio)
            axes.fill_betweenx([place - 0.4, place + 0.4], low, high, color=GREY, alpha=0.25, linewidth=0)
    for number in range(len(quality.simulated)):
        _draw_simulator(axes, quality, number)
    axes.axvline(1.0, color=GREY, linestyle="--", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(MEASURES)), [measure.title for measure in MEASURES])
    axes.invert_yaxis()
    tidy(axes, x="distance from people / distance between two halves of the people", y="")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return finished(
        figure,
        "simulator_distances",
        title="Simulated users against people",
        caption="1: as far from people as other people are. Grey: 95 % of the distances between two random "
        "halves of the people, drawn as often and with as many dialogues as for the first simulator. Lines: "
        f"95 % of the draws. Values are drawn between {_LOWEST:g} and {_HIGHEST:g}.",
    )


def _draw_simulator(axes: Axes, quality: SimulatorQuality, number: int) -> None:
    """Draw the ratios of one set of simulated users, in a row of their own within each measure."""
    one = quality.simulated[number]
    colour = MODEL_COLOURS[number % len(MODEL_COLOURS)]
    marker = MODEL_MARKERS[number % len(MODEL_MARKERS)]
    axes.plot([], [], color=colour, marker=marker, label=plain(one.users.name))
    for place, gap in enumerate(one.gaps):
        if np.isnan(gap.ratio.estimate):
            continue
        height = place - 0.35 + 0.7 * (number + 1) / (len(quality.simulated) + 1)
        low, middle, high = _drawn(gap.ratio)
        axes.plot([low, high], [height, height], color=colour, linewidth=1.2)
        axes.plot([middle], [height], color=colour, marker=marker)


def _drawn(ratio: Interval) -> tuple[float, float, float]:
    """Return lower bound, estimate and upper bound within the limits of the axis."""
    low, middle, high = (
        min(max(value, _LOWEST), _HIGHEST) for value in (ratio.low, ratio.estimate, ratio.high)
    )
    return low, middle, high


def turn_chart(quality: SimulatorQuality) -> LineChart:
    """Return the means by message of people and of every set of simulated users, one panel per measure."""
    users = [quality.people, *(one.users for one in quality.simulated)]
    panels: list[Panel] = []
    for number, measure in enumerate(MEASURES):
        curves: list[Curve] = []
        for index, one in enumerate(users):
            means, halves = turn_means(one, number)
            shown = [turn for turn in range(len(means)) if np.isfinite(means[turn])]
            if shown:
                curves.append(
                    Curve(
                        f"people: {one.name}" if index == 0 else one.name,
                        index,
                        [turn + 1 for turn in shown],
                        [float(means[turn]) for turn in shown],
                        band=[float(halves[turn]) for turn in shown],
                    )
                )
        panels.append(Panel(measure.title, "message of the dialogue", measure.unit, tuple(curves)))
    return LineChart(
        "simulator_turns",
        "Means by message",
        "Mean over dialogues with its 95 % interval, at messages that at least five dialogues have. "
        f"The distances compare the first {quality.num_turns} messages.",
        tuple(panels),
    )
