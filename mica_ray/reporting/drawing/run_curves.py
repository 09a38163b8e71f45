"""The curve of several runs of one setting: their mean by step, and the range between the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mica_ray.reporting.drawing.canvas import GREY, MODEL_COLOURS, MODEL_MARKERS, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_runs(axes: Axes, curves: Sequence[Mapping[int, float]], *, name: str, number: int | None) -> None:
    """Draw the mean of the curves at the steps that all nonempty ones share, with a band of their range.

    Args:
        axes: where to draw.
        curves: values by step, one curve per run; at least one is not empty.
        name: label of the curve.
        number: determines colour and marker; None draws in grey without markers.
    """
    steps, values = shared_steps(curves)
    colour = GREY if number is None else MODEL_COLOURS[number % len(MODEL_COLOURS)]
    axes.plot(
        steps,
        values.mean(axis=0),
        color=colour,
        marker=None if number is None else MODEL_MARKERS[number % len(MODEL_MARKERS)],
        markersize=4,
        linewidth=1.6,
        label=plain(name),
    )
    if len(values) > 1:
        axes.fill_between(
            steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.12, linewidth=0
        )


def shared_steps(curves: Sequence[Mapping[int, float]]) -> tuple[list[int], np.ndarray]:
    """Return the steps that all nonempty curves share, and the values at these steps.

    Returns:
        Steps [K] in order, values [number of nonempty curves, K].
    """
    begun = [curve for curve in curves if curve]
    steps = sorted(set.intersection(*(set(curve) for curve in begun)))
    return steps, np.array([[curve[step] for step in steps] for curve in begun])
