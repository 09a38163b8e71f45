"""Text tables as a picture, with the rules of a printed table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mica_ray.reporting.drawing.canvas import DrawnFigure, finished, new_figure, plain
from mica_ray.reporting.drawing.text_table import TextTable, stacked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LETTER, _LINE, _GAP = 0.085, 0.19, 0.25
"""Width of a letter, height of a line, and space between columns, in inches."""


def table_picture(tables: Sequence[TextTable], name: str, *, caption: str) -> DrawnFigure:
    """Draw tables below each other; the title of the first one is the title of the figure.

    Args:
        tables: at least one; an interval is drawn below its estimate, and a long name is cut.
        name: file name without suffix.
        caption: text below the tables.
    """
    grids = [_cells(table) for table in tables]
    widths = [_widths(grid) for grid in grids]
    heights = [sum(_row_height(row) for row in grid) + 2 * _LINE for grid in grids]
    width = max(6.0, *(sum(each) for each in widths))
    note_lines = 1 + len(caption) // max(1, int(15 * width))
    figure = new_figure(width, sum(heights) + 0.6 + 0.16 * note_lines)
    panels = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)
    for number, (axes, table, grid) in enumerate(zip(panels.flat, tables, grids, strict=True)):
        _draw(axes, grid, widths[number], width=width, height=heights[number])
        if number:
            axes.set_title(plain(table.title), fontsize=10, fontweight="bold")
    return finished(figure, name, title=plain(tables[0].title), caption=caption.replace("$", r"\$"))


def _cells(table: TextTable) -> list[list[str]]:
    """Return the lines of every cell, the header first."""
    header = [title.replace(" ", "\n", 1) for title in table.header]
    rows = [[plain(row[0]), *(stacked(cell) for cell in row[1:])] for row in table.rows]
    return [header, *rows]


def _widths(grid: Sequence[Sequence[str]]) -> list[float]:
    """Return the width of every column in inches."""
    from rich.cells import cell_len

    columns = zip(*grid, strict=True)
    return [
        _GAP + _LETTER * max(cell_len(line) for cell in column for line in cell.split("\n"))
        for column in columns
    ]


def _row_height(row: Sequence[str]) -> float:
    return _LINE * (0.6 + max(cell.count("\n") + 1 for cell in row))


def _draw(
    axes: Axes, grid: Sequence[Sequence[str]], widths: Sequence[float], *, width: float, height: float
) -> None:
    """Draw the cells, the first column left-aligned, in units of inches from the upper left corner."""
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    right = [sum(widths[: place + 1]) for place in range(len(widths))]
    top = _LINE / 2
    _rule(axes, top, right[-1], 1.2)
    for number, row in enumerate(grid):
        middle = top + _row_height(row) / 2
        for place, text in enumerate(row):
            x, side = (0.0, "left") if place == 0 else (right[place], "right")
            weight = "bold" if number == 0 else "normal"
            axes.text(x, middle, text, ha=side, va="center", fontsize=8, fontweight=weight)
        top += _row_height(row)
        if number == 0:
            _rule(axes, top, right[-1], 0.6)
    _rule(axes, top, right[-1], 1.2)


def _rule(axes: Axes, height: float, width: float, thickness: float) -> None:
    axes.plot([0, width], [height, height], color="black", linewidth=thickness)
