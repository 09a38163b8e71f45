"""Line charts: their numbers, and two ways to draw them, with matplotlib as PNG and with plotly in a page.

Both draw curves with the same number in the same colour and marker, so that a run looks alike everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

from markupsafe import Markup

from mica_ray.reporting.drawing.canvas import (
    MODEL_COLOURS,
    MODEL_MARKERS,
    DrawnFigure,
    finished,
    new_figure,
    plain,
    tidy,
)
from mica_ray.reporting.drawing.page import side_by_side

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from plotly.graph_objects import Figure

_SYMBOLS = {
    "o": ("circle", "●"), "s": ("square", "■"), "^": ("triangle-up", "▲"), "D": ("diamond", "◆"),
    "v": ("triangle-down", "▼"), "P": ("cross", "✚"),
}  # fmt: skip
"""Marker of matplotlib -> symbol of plotly, and character of the legend."""
_COLUMNS = 2
_BAND_OPACITY = 0.15
_NOTHING = "nothing logged"
"""Text of a panel without a curve."""
_MOST_MARKERS = 40
"""A curve with more points is drawn without markers, which would hide it."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve of a panel. NaN is drawn as a gap."""

    name: str
    number: int
    """Number of the run, from 0; determines colour and marker."""
    x: Sequence[float]
    y: Sequence[float]
    is_dashed: bool = False
    band: Sequence[float] | None = None
    """Half the height of a band around the curve; None: no band."""

    def __post_init__(self) -> None:
        """Check that the lengths match."""
        if len(self.x) != len(self.y) or (self.band is not None and len(self.band) != len(self.x)):
            lengths = [len(self.x), len(self.y), *([] if self.band is None else [len(self.band)])]
            raise ValueError(f"x, y and band of {self.name} must have equal lengths, got {lengths}.")

    @property
    def colour(self) -> str:
        """Colour of its number."""
        return MODEL_COLOURS[self.number % len(MODEL_COLOURS)]

    @property
    def marker(self) -> str:
        """Matplotlib marker of its number. Colour and marker together repeat only after 36 numbers."""
        lap = self.number // len(MODEL_COLOURS)
        return MODEL_MARKERS[(self.number + lap) % len(MODEL_MARKERS)]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes and its curves."""

    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    is_log: bool = False


@dataclass(frozen=True, slots=True)
class LineChart:
    """Panels that belong together. Curves with the same name have the same number in all of them."""

    name: str
    """File name without suffix."""
    title: str
    caption: str
    panels: tuple[Panel, ...]

    @property
    def names(self) -> dict[str, Curve]:
        """The first curve of each name, by name; in no particular order."""
        return {curve.name: curve for panel in reversed(self.panels) for curve in reversed(panel.curves)}


def drawn_chart(chart: LineChart) -> DrawnFigure:
    """Draw the chart with matplotlib."""
    from matplotlib.lines import Line2D

    rows = -(-len(chart.panels) // _COLUMNS)
    figure = new_figure(5.4 * min(_COLUMNS, len(chart.panels)), 2.9 * rows + 1.0)
    grid = figure.subplots(rows, min(_COLUMNS, len(chart.panels)), squeeze=False)
    for axes in grid.flat[len(chart.panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, chart.panels, strict=False):
        for curve in panel.curves:
            _draw_curve(axes, curve)
        if not panel.curves:
            axes.text(0.5, 0.5, _NOTHING, transform=axes.transAxes, ha="center", color="#444444")
        if panel.is_log and any(value > 0 for curve in panel.curves for value in curve.y):
            axes.set_yscale("log")
        tidy(axes, x=panel.x, y=panel.y, title=panel.title)
    handles = [
        Line2D(
            [], [], color=curve.colour, marker=curve.marker, linestyle=_dash(curve), markersize=4,
            label=plain(name),
        )
        for name, curve in _legend(chart)
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    return finished(figure, chart.name, title=chart.title, caption=chart.caption)


def page_chart(chart: LineChart) -> Markup:
    """Return the chart for a page: one plotly figure per panel, side by side if the window is wide enough."""
    legend = [
        {"name": name, "colour": curve.colour, "mark": _SYMBOLS[curve.marker][1]}
        for name, curve in _legend(chart)
    ]
    figures = {panel.title: _plotly_figure(panel) for panel in chart.panels}
    return side_by_side(figures, title=chart.title, caption=chart.caption, legend=legend)


def _draw_curve(axes: Axes, curve: Curve) -> None:
    marker = curve.marker if len(curve.x) <= _MOST_MARKERS else ""
    axes.plot(
        curve.x,
        curve.y,
        color=curve.colour,
        linestyle=_dash(curve),
        marker=marker,
        markersize=3.5,
        linewidth=1.5,
        label=curve.name,
    )
    if curve.band is not None:
        low, high = _bounds(curve)
        axes.fill_between(curve.x, low, high, color=curve.colour, alpha=_BAND_OPACITY, linewidth=0)


def _plotly_figure(panel: Panel) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    for curve in panel.curves:
        # plotly interprets tags in names; the name of a folder is plain text.
        name, x = escape(curve.name), list(curve.x)
        if curve.band is not None:
            low, high = _bounds(curve)
            figure.add_scatter(
                x=x + x[::-1], y=high + low[::-1], fill="toself", fillcolor=curve.colour, mode="none",
                opacity=_BAND_OPACITY, hoverinfo="skip",
            )  # fmt: skip
        figure.add_scatter(
            x=x, y=list(curve.y), name=name, mode="lines+markers" if len(x) <= _MOST_MARKERS else "lines",
            line={"color": curve.colour, "width": 2, "dash": "dash" if curve.is_dashed else "solid"},
            marker={"symbol": _SYMBOLS[curve.marker][0], "size": 6},
        )  # fmt: skip
    is_log = panel.is_log and any(value > 0 for curve in panel.curves for value in curve.y)
    figure.update_layout(
        showlegend=False, hovermode="x unified", height=270,
        margin={"l": 55, "r": 10, "t": 10, "b": 40},
        xaxis={"title": {"text": panel.x, "standoff": 6}},
        yaxis={"title": {"text": panel.y, "standoff": 6}, "type": "log" if is_log else "linear"},
    )  # fmt: skip
    if is_log:
        figure.update_yaxes(exponentformat="power", nticks=5)
    if not panel.curves:
        figure.add_annotation(text=_NOTHING, showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5)
        figure.update_xaxes(showticklabels=False)
        figure.update_yaxes(showticklabels=False)
    return figure


def _bounds(curve: Curve) -> tuple[list[float], list[float]]:
    band = curve.band or ()
    low = [value - half for value, half in zip(curve.y, band, strict=True)]
    return low, [value + half for value, half in zip(curve.y, band, strict=True)]


def _legend(chart: LineChart) -> list[tuple[str, Curve]]:
    """Return one curve per number, preferably the solid one; the caption explains dashes."""
    found: dict[int, tuple[str, Curve]] = {}
    for name, curve in sorted(chart.names.items(), key=lambda item: (item[1].number, item[1].is_dashed)):
        found.setdefault(curve.number, (name, curve))
    return list(found.values())


def _dash(curve: Curve) -> Literal["-", "--"]:
    return "--" if curve.is_dashed else "-"
