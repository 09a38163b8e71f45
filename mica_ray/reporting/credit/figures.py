"""Figures of a comparison of credit estimators: by turn, spikes, correlation and bounds of z-scores."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from mica_ray.credit_study.comparison import CreditComparison
from mica_ray.credit_study.turn_statistics import SpikeBound
from mica_ray.reporting.drawing.canvas import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, GREY)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
"""Colour, dash and marker differ together, so that no estimator is identified only by its colour."""

LONGEST_NAME = 32
"""Maximum length of a name in a figure; a longer one would leave no room for the plot."""

_ROUND = tuple(factor * 10**power for power in range(7) for factor in (1, 2, 5))
"""Ticks of a logarithmic axis of counts."""

TAIL_POINTS = 120
"""Number of points per curve in the spike figure."""


def turn_figure(comparison: CreditComparison, values: np.ndarray, *, y: str) -> Figure:
    """Draw one line per estimator over the turns.

    Args:
        comparison: provides the names of the estimators.
        values: [E, T], NaN where no dialogue reaches the turn.
        y: label of the values.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    turns = np.arange(1, values.shape[1] + 1)
    for number, (name, row) in enumerate(zip(comparison.names, values, strict=True)):
        figure.add_trace(
            go.Scatter(x=turns, y=row, mode="lines+markers", name=_label(name), **_style(number))
        )
    return _labelled(figure, x="turn", y=y)


def survivor_figure(comparison: CreditComparison) -> Figure:
    """Draw the number of dialogues, of groups, and of groups with only one dialogue left, by turn."""
    import plotly.graph_objects as go

    survivors = comparison.survivors
    turns = np.arange(1, len(survivors.dialogues) + 1)
    figure = go.Figure()
    figure.add_trace(go.Bar(x=turns, y=survivors.dialogues, name="dialogues n_t", marker={"color": SKY}))
    for values, name, colour, dash in (
        (survivors.groups, "groups", BLUE, "solid"),
        (survivors.lone, "groups with one dialogue left", VERMILION, "dash"),
    ):
        line = {"color": colour, "dash": dash}
        figure.add_trace(go.Scatter(x=turns, y=values, mode="lines", name=name, line=line))
    return _labelled(figure, x="turn", y="count")


def spike_figure(comparison: CreditComparison, valid: np.ndarray) -> Figure:
    """Draw the share of judged turns whose |A| exceeds a multiple of the estimator's rms."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for number, (name, one, credit) in enumerate(
        zip(comparison.names, comparison.measures, comparison.advantages, strict=True)
    ):
        size = np.sort(np.abs(credit[valid])) / (one.rms or 1.0)
        levels = np.linspace(0.0, size[-1], TAIL_POINTS)
        share = 1.0 - np.searchsorted(size, levels, side="left") / size.size
        style = {"line": _style(number)["line"]}
        figure.add_trace(go.Scatter(x=levels, y=share, mode="lines", name=_label(name), **style))
    figure.update_yaxes(type="log", exponentformat="none", dtick=1)
    return _labelled(
        figure, x="|A| in multiples of the estimator's rms", y="share of turns with at least this |A|"
    )


def correlation_figure(names: Sequence[str], values: np.ndarray) -> Figure:
    """Draw the correlation of every pair of estimators.

    Args:
        names: names of the estimators.
        values: [E, E], NaN where it is not defined.
    """
    import plotly.graph_objects as go

    labels = [_label(name) for name in names]
    figure = go.Figure(
        go.Heatmap(
            x=labels,
            y=labels,
            z=values,
            zmin=-1,
            zmax=1,
            colorscale="RdBu_r",
            showscale=False,
            texttemplate="%{z:.2f}",
            hovertemplate="%{y} with %{x}: %{z:.3f}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickangle=-90)
    figure.update_layout(height=180 + 40 * len(labels), margin={"l": 55, "r": 10, "t": 10, "b": 100})
    return figure


def bound_figure(comparison: CreditComparison) -> Figure:
    """Draw the largest z-score of every set of compared turns, and Samuelson's bound."""
    import plotly.graph_objects as go

    bounds: tuple[tuple[str, SpikeBound, str, str], ...] = (
        ("turn term: returns at one turn", comparison.turn_bound, BLUE, "circle"),
        ("group term: immediate rewards", comparison.group_bound, VERMILION, "diamond"),
    )
    figure = go.Figure()
    most = max((int(bound.sizes.max(initial=2)) for _, bound, _, _ in bounds), default=2)
    sizes = np.unique(np.round(np.geomspace(2, most, 60)))
    line = {"color": GREY, "dash": "dash"}
    figure.add_trace(
        go.Scatter(x=sizes, y=(sizes - 1) / np.sqrt(sizes), mode="lines", name="(n − 1) / √n", line=line)
    )
    for name, bound, colour, symbol in bounds:
        marker = {"color": colour, "symbol": symbol, "size": 7, "opacity": 0.6}
        # Equal points are drawn once: a run has thousands of groups of the same size.
        points = np.unique(np.column_stack([bound.sizes, np.round(bound.largest, 3)]), axis=0)
        figure.add_trace(go.Scatter(x=points[:, 0], y=points[:, 1], mode="markers", name=name, marker=marker))
    figure.update_xaxes(type="log", tickvals=[value for value in _ROUND if value <= most])
    return _labelled(figure, x="n (turns compared with each other)", y="largest |z|")


def _label(name: str) -> str:
    """Return a short form of an estimator's name, with tags escaped, some of which plotly interprets."""
    return escape(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")


def _style(number: int) -> dict[str, dict[str, str | int]]:
    colour = COLOURS[number % len(COLOURS)]
    return {
        "line": {"color": colour, "dash": DASHES[number % len(DASHES)], "width": 2},
        "marker": {"color": colour, "symbol": MARKERS[number % len(MARKERS)], "size": 6},
    }


def _labelled(figure: Figure, *, x: str, y: str) -> Figure:
    figure.update_xaxes(title={"text": x, "standoff": 6})
    figure.update_yaxes(title={"text": y, "standoff": 6})
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    figure.update_layout(margin={"t": 40, "r": 20, "b": 50})
    return figure
