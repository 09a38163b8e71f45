"""What every figure shares: colours that the colour-blind tell apart, grids, captions, text made harmless."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, in an order in which neighbours differ in lightness too.
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
    """One finished figure; the caption stands in the picture and in the report."""

    name: str
    """File name without ending."""
    title: str
    caption: str
    figure: Figure

    def png(self, dpi: int = DPI) -> bytes:
        """Draw the picture at so many dots per inch."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
        return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, in inches; nothing global is touched, so no display is needed."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def finished(figure: Figure, name: str, *, title: str, caption: str) -> DrawnFigure:
    """Write title and caption into the picture."""
    width = int(figure.get_figwidth() * _LETTERS_PER_INCH)
    figure.suptitle(title, fontsize=12, fontweight="bold")
    figure.supxlabel("\n".join(textwrap.wrap(caption, width)), fontsize=8, color="#444444")
    return DrawnFigure(name, title, caption, figure)


def model_panels(num_models: int, *, row_height: float) -> tuple[Figure, np.ndarray]:
    """Give a figure with one panel per model on common scales, at most four in a row, and its panels."""
    columns = min(num_models, 4)
    rows = -(-num_models // columns)
    figure = new_figure(max(5.5, 3.6 * columns), row_height * rows + 0.9)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel in panels.flat[num_models:]:
        panel.set_axis_off()
    return figure, panels


def tidy(axes: Axes, *, x: str, y: str, title: str = "") -> None:
    """Label the axes and leave only the lines that carry something."""
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title, fontsize=10)


def plain(name: str) -> str:
    """Make a name from a file harmless to draw: one short line in which no mark has a meaning."""
    line = " ".join(name.split())
    short = line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1]}…"
    return short.replace("\\", "/").replace("$", r"\$")
