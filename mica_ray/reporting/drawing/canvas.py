"""What all figures share: colour-blind safe colours, axes, captions, and escaped names."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mica_ray.statistics import Interval

# Okabe and Ito's colours, ordered so that neighbours also differ in lightness.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#6E6E6E",
)  # fmt: skip
MODEL_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
MODEL_MARKERS = ("o", "s", "^", "D", "v", "P")
AXIS_NAMES = {"C": "cognitive", "A": "affective", "P": "proactive"}
AXIS_COLOURS = {"C": BLUE, "A": VERMILION, "P": GREEN}
DPI = 160
_LETTERS_PER_INCH = 15
_LONGEST_NAME = 32


@dataclass(frozen=True, slots=True)
class DrawnFigure:
    """A finished figure. The caption is part of the picture and repeated in the report."""

    name: str
    """File name without suffix."""
    title: str
    caption: str
    figure: Figure

    def png(self, dpi: int = DPI) -> bytes:
        """Return the picture as PNG, at `dpi` dots per inch."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
        return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches. It uses no global state of matplotlib, so no display is needed."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def finished(figure: Figure, name: str, *, title: str, caption: str) -> DrawnFigure:
    """Add title and caption to the figure and return both."""
    width = int(figure.get_figwidth() * _LETTERS_PER_INCH)
    figure.suptitle(title, fontsize=12, fontweight="bold")
    figure.supxlabel("\n".join(textwrap.wrap(caption, width)), fontsize=8, color="#444444")
    return DrawnFigure(name, title, caption, figure)


def panel_grid(num_panels: int, *, row_height: float) -> tuple[Figure, np.ndarray]:
    """Return a figure with panels on common scales, at most four in a row, and the panels [rows, columns]."""
    columns = min(num_panels, 4)
    rows = -(-num_panels // columns)
    figure = new_figure(max(5.5, 3.6 * columns), row_height * rows + 0.9)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel in panels.flat[num_panels:]:
        panel.set_axis_off()
    return figure, panels


def tidy(axes: Axes, *, x: str, y: str, title: str = "") -> None:
    """Label the axes, add a light grid, and remove the top and right border."""
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title, fontsize=10)


def value_and_ends(interval: Interval) -> tuple[float, list[list[float]]]:
    """Return an estimate and its distances to the bounds, as matplotlib's `errorbar` takes them."""
    value = interval.estimate
    return value, [[max(0.0, value - interval.low)], [max(0.0, interval.high - value)]]


def plain(name: str) -> str:
    """Return a name from a file as one short line, with `$` and backslash escaped for matplotlib."""
    line = " ".join(name.split())
    short = line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1]}…"
    return short.replace("\\", "/").replace("$", r"\$")
