"""Figures that compare models: EPM-Q, success by dominant axis (the paper's Figure 4), alignment (Figure 5).

Intervals are computed in mica_ray/statistics.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mica_ray.evaluation.epm_q import INDEX_NAMES, scores_of
from mica_ray.recordings.recorded_dialogue import RecordedDialogue, by_model
from mica_ray.reporting.dialogues.layout import describe_counts
from mica_ray.reporting.drawing.canvas import (
    AXIS_NAMES,
    GREY,
    MODEL_COLOURS,
    MODEL_MARKERS,
    DrawnFigure,
    finished,
    new_figure,
    plain,
    tidy,
    value_and_ends,
)
from mica_ray.statistics import Interval, bootstrap_mean, wilson
from mica_ray.types import AXES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SEED = 0
"""Seed of the bootstrap, fixed so that equal files give equal pictures."""
_MARKER_HEIGHT = 2.2
"""Height of a marker in index points."""


def success_figure(dialogues: Sequence[RecordedDialogue]) -> DrawnFigure:
    """Draw the share of dialogues that succeed by the user's dominant axis (arXiv 2603.06194, Figure 4)."""
    from matplotlib.patches import Patch

    groups = by_model(dialogues)
    figure = new_figure(max(7.0, 2.2 + 1.5 * len(groups)), 4.6)
    axes = figure.subplots()
    width = 0.8 / len(groups)
    for number, members in enumerate(groups.values()):
        for index, key in enumerate(AXES):
            stratum = [dialogue for dialogue in members if dialogue.dominant_axis == key]
            if stratum:
                place = index + (number - (len(groups) - 1) / 2) * width
                _draw_share(axes, stratum, place, 0.92 * width, _colour(number))
    axes.set_xticks(range(3), [f"{key}, {AXIS_NAMES[key]}" for key in AXES])
    axes.set(xlim=(-0.5, 2.5), ylim=(0, 112))
    axes.set_yticks(range(0, 101, 20))
    tidy(axes, x="dominant axis of the user", y="dialogues that succeed (%)")
    axes.grid(visible=False, axis="x")
    patches = [Patch(color=_colour(number), label=plain(model)) for number, model in enumerate(groups)]
    figure.legend(handles=patches, loc="outside right upper", fontsize=8, frameon=False)
    caption = (
        f"{describe_counts(dialogues)} Bars: share of dialogues that succeed. Lines: 95 % Wilson intervals."
    )
    return finished(figure, "success_by_axis", title="Success by dominant axis", caption=caption)


def _draw_share(
    axes: Axes, stratum: Sequence[RecordedDialogue], place: float, width: float, colour: str
) -> None:
    """Draw one bar with its interval, and the counts "passed/all" above it."""
    passed = sum(dialogue.outcome == "success" for dialogue in stratum)
    share = _scaled(wilson(passed, len(stratum)), 100)
    value, ends = value_and_ends(share)
    axes.bar(place, value, width, color=colour)
    axes.errorbar(place, value, yerr=ends, color="black", capsize=2, linewidth=0.9, fmt="none")
    axes.annotate(
        f"{passed}/{len(stratum)}",
        (place, share.high),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=7,
    )


def alignment_score_figure(dialogues: Sequence[RecordedDialogue]) -> DrawnFigure:
    """Draw each dialogue's alignment index and the mean of each model (arXiv 2603.06194, Figure 5)."""
    groups = by_model(dialogues)
    figure = new_figure(max(6.0, 1.8 + 1.5 * len(groups)), 4.6)
    axes = figure.subplots()
    for number, members in enumerate(groups.values()):
        values = np.array([score.alignment for score in scores_of(members)])
        axes.plot(
            number + _offsets(values),
            values,
            linestyle="none",
            marker=MODEL_MARKERS[number % len(MODEL_MARKERS)],
            color=_colour(number),
            alpha=0.55,
            markersize=5,
            markeredgewidth=0,
        )
        mean = bootstrap_mean(values, seed=_SEED)
        value, ends = value_and_ends(mean)
        axes.errorbar(
            number, value, yerr=ends, fmt="_", color="black", markersize=26, capsize=5, linewidth=1.4
        )
        axes.annotate(
            f"{mean.estimate:.1f}",
            (number + 0.46, mean.estimate),
            ha="right",
            va="center",
            fontsize=9,
            fontweight="bold",
        )
    axes.axhline(50, color=GREY, linewidth=1.0, linestyle=":")
    axes.set_xticks(
        range(len(groups)), [plain(model) for model in groups], rotation=15 if len(groups) > 4 else 0
    )
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(0, 100)
    tidy(axes, x="", y="alignment index (0 to 100)")
    axes.grid(visible=False, axis="x")
    caption = (
        f"{describe_counts(dialogues)} Each marker is a dialogue. Dash and line: mean with its 95 % "
        "bootstrap interval. 50 (dotted): moves are not aligned with the direct way to the goal; 100: "
        "fully aligned."
    )
    return finished(figure, "alignment_scores", title="Alignment scores", caption=caption)


def comparison_figure(dialogues: Sequence[RecordedDialogue]) -> DrawnFigure:
    """Draw EPM-Q, success and the nine indices of every model side by side."""
    groups = by_model(dialogues)
    figure = new_figure(12, max(4.4, 2.2 + 0.45 * len(groups)))
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.7))
    for number, (model, members) in enumerate(groups.items()):
        scores = scores_of(members)
        mark = {"color": _colour(number), "marker": MODEL_MARKERS[number % len(MODEL_MARKERS)]}
        passed = sum(one.outcome == "success" for one in members)
        row = len(groups) - 1 - number
        _draw_estimate(left, bootstrap_mean([score.score for score in scores], seed=_SEED), row, mark)
        _draw_estimate(middle, _scaled(wilson(passed, len(members)), 100), row, mark)
        means = [float(np.mean([getattr(score, name) for score in scores])) for name in INDEX_NAMES if scores]
        places = range(len(INDEX_NAMES) - 1, -1, -1)[: len(means)]
        right.plot(means, places, linestyle="none", markersize=7, label=plain(model), alpha=0.9, **mark)
    left.set_yticks(range(len(groups)), [plain(model) for model in groups][::-1])
    middle.set_yticks(range(len(groups)), [""] * len(groups))
    left.set(xlim=(-8, max(108.0, left.get_xlim()[1])), ylim=(-0.6, len(groups) - 0.3))
    middle.set(xlim=(-8, 108), ylim=(-0.6, len(groups) - 0.3))
    right.set_yticks(range(len(INDEX_NAMES)), INDEX_NAMES[::-1])
    tidy(left, x="EPM-Q (not capped at 100)", y="", title="score")
    tidy(middle, x="dialogues that succeed (%)", y="", title="success")
    tidy(
        right,
        x="index (0 to 100; energy, levels, density and projection may exceed 100)",
        y="",
        title="indices",
    )
    right.axvline(100, color=GREY, linewidth=1.0, linestyle=":")
    figure.legend(*right.get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    caption = (
        f"{describe_counts(dialogues)} Means over dialogues. Lines: 95 % intervals (bootstrap over "
        "dialogues for EPM-Q, Wilson for success). EPM-Q of published runs counts turns without a "
        "judgement as no change."
    )
    return finished(figure, "models", title="Models side by side", caption=caption)


def _draw_estimate(axes: Axes, interval: Interval, row: int, mark: Mapping[str, str]) -> None:
    """Draw one value with its interval, and the number above it."""
    value, ends = value_and_ends(interval)
    axes.errorbar(
        [value], [row], xerr=ends, markersize=8, capsize=4, linewidth=1.6,
        color=mark["color"], marker=mark["marker"],
    )  # fmt: skip
    axes.annotate(
        f"{value:.1f}", (value, row), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9
    )


def _colour(number: int) -> str:
    return MODEL_COLOURS[number % len(MODEL_COLOURS)]


def _offsets(values: np.ndarray) -> np.ndarray:
    """Return horizontal offsets [n] for values [n] at which no marker covers another."""
    steps = [0.0] + [side * 0.055 * step for step in range(1, 7) for side in (1, -1)]
    offsets = np.zeros(len(values))
    placed: list[tuple[float, float]] = []
    for index in np.argsort(values, kind="stable"):
        near = [offset for value, offset in placed if abs(values[index] - value) < _MARKER_HEIGHT]
        offsets[index] = next((step for step in steps if step not in near), 0.0)
        placed.append((float(values[index]), float(offsets[index])))
    return offsets


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(factor * interval.estimate, factor * interval.low, factor * interval.high)
