"""Figures of a judge's card: bars with intervals, agreement of raters, and scores along the turns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from mica_ray.judges.card.findings import RECORDED, recorded_points
from mica_ray.judges.card.noise import ALL
from mica_ray.judges.card.record import Card
from mica_ray.reporting.credit.figures import COLOURS, MARKERS, correlation_figure
from mica_ray.reporting.drawing.canvas import GREY
from mica_ray.statistics import Interval

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

LONGEST_NAME = 32
_JITTER = 0.12
"""Turns by which the points of two judges are set apart, so that equal scores do not hide each other."""


def interval_bars(
    judges: Mapping[str, Mapping[str, Interval]], *, y: str, limits: Sequence[float] = ()
) -> Figure:
    """Draw one group of bars per label, one bar per judge, with its 95 % interval.

    Args:
        judges: intervals by label, by judge.
        y: label of the values.
        limits: dashed lines, the thresholds.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for place, (name, intervals) in enumerate(judges.items()):
        values = [_finite(one.estimate) for one in intervals.values()]
        ends = [
            (_finite(one.high - one.estimate), _finite(one.estimate - one.low)) for one in intervals.values()
        ]
        figure.add_trace(
            go.Bar(
                x=[escape(label) for label in intervals],
                y=values,
                name=_label(name),
                marker={"color": COLOURS[place % len(COLOURS)]},
                error_y={"array": [up for up, _ in ends], "arrayminus": [down for _, down in ends]},
            )
        )
    for limit in limits:
        figure.add_hline(y=limit, line={"color": GREY, "dash": "dash", "width": 1})
    return _labelled(figure, x="", y=y)


def noise_bars(card: Card) -> Figure:
    """Draw the standard deviation of v_t within repeats, by axis."""
    return interval_bars(
        {
            found.name: {axis: Interval(sd, sd, sd) for axis, sd in found.noise.sd.items()}
            for found in card.judges
        },
        y="standard deviation, points",
    )


def kappa_map(card: Card) -> Figure:
    """Draw the quadratic kappa of every pair of raters; the diagonal is a judge with its own repeats."""
    names = card.raters
    values = np.full((len(names), len(names)), np.nan)
    if card.between is not None:
        for (one, two), kappa in card.between[ALL].kappa_quadratic.items():
            row, column = names.index(one), names.index(two)
            values[row, column] = values[column, row] = kappa
    for found in card.judges:
        if found.self_agreement is not None:
            own = [kappa for kappa in found.self_agreement[ALL].kappa_quadratic.values() if kappa == kappa]
            place = names.index(found.name)
            values[place, place] = sum(own) / len(own) if own else np.nan
    return correlation_figure(names, values)


def turn_scatter(card: Card) -> Figure:
    """Draw v_t of every turn along its number in the dialogue: mean over axes and repeats, and recorded."""
    import plotly.graph_objects as go

    figure = go.Figure()
    numbers = np.array([turn.number for turn in card.turns], dtype=np.float64)
    rows = {RECORDED: recorded_points(card.turns)[:, None]} if RECORDED in card.raters else {}
    rows |= {found.name: found.turns for found in card.judges}
    for place, (name, values) in enumerate(rows.items()):
        valid = np.isfinite(values).any(axis=(1, 2))
        colour = GREY if name == RECORDED else COLOURS[place % len(COLOURS)]
        style = {"color": colour, "symbol": MARKERS[place % len(MARKERS)], "size": 7, "opacity": 0.7}
        x, y = numbers[valid], np.nanmean(values[valid], axis=(1, 2))
        figure.add_trace(
            go.Scatter(x=x + place * _JITTER, y=y, mode="markers", name=_label(name), marker=style)
        )
        if np.ptp(x) > 0 if x.size else False:
            slope, start = np.polyfit(x, y, 1)
            ends = np.array([x.min(), x.max()])
            line = {"color": colour, "dash": "dash"}
            figure.add_trace(
                go.Scatter(x=ends, y=start + slope * ends, mode="lines", line=line, showlegend=False)
            )
    return _labelled(figure, x="turn", y="v_t, points (mean over axes)")


def flattened(groups: Mapping[str, Mapping[str, Interval]]) -> dict[str, Interval]:
    """Return intervals by "GROUP SCOPE", such as "paraphrase A"."""
    return dict(
        itertools.chain.from_iterable(
            ((f"{group} {scope}", one) for scope, one in scopes.items()) for group, scopes in groups.items()
        )
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _label(name: str) -> str:
    return escape(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")


def _labelled(figure: Figure, *, x: str, y: str) -> Figure:
    figure.update_xaxes(title={"text": x, "standoff": 6})
    figure.update_yaxes(title={"text": y, "standoff": 6})
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    figure.update_layout(margin={"t": 40, "r": 20, "b": 50}, barmode="group", showlegend=True)
    return figure
