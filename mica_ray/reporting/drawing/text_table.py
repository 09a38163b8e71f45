"""A table of text cells, and its forms for the terminal, Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_SHORT_LINE = 24
"""Longest line that is never wrapped: a number with its unit, an interval, a short name."""
_MARKDOWN = re.compile(r"([\\`*_<>|#~])|\](?=\()")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of plain text. Each form escapes the characters that it would read as markup."""

    title: str
    header: tuple[str, ...]
    """[K]; the first column is left-aligned, the others right-aligned."""
    rows: tuple[tuple[str, ...], ...]
    """[R][K]."""
    notes: tuple[str, ...] = ()
    """Lines below the table."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"Every row must have {len(self.header)} cells, got {len(row)}: {row}.")

    def show(self, console: Console | None = None) -> None:
        """Print title, header and rows; no number, name or word is cut, however narrow the terminal.

        Intervals are printed below their estimates, long text wraps at spaces. Columns for which the terminal
        is too narrow follow in further blocks that repeat the first column. Notes are not printed.

        Args:
            console: the console to print to; None for the standard output.
        """
        from rich.console import Console

        shown_on = console or Console(markup=False, emoji=False)
        width = shown_on.width
        for number, columns in enumerate(self._blocks(width)):
            wide_enough = max(width, _table_width([self._widths(column)[0] for column in columns]))
            grid = self._grid(columns, wide_enough, title=self.title if number == 0 else None)
            shown_on.print(grid, width=wide_enough, crop=False)

    def _blocks(self, width: int) -> list[list[int]]:
        """Distribute the columns over blocks that fit the width; every block starts with column 0."""
        blocks = [[0]]
        for column in range(1, len(self.header)):
            least = [self._widths(other)[0] for other in (*blocks[-1], column)]
            # A block has at least one column next to the names, even if they do not fit together.
            if _table_width(least) <= width or blocks[-1] == [0]:
                blocks[-1].append(column)
            else:
                blocks.append([0, column])
        return blocks

    def _widths(self, column: int) -> tuple[int, int]:
        """Return the width in which no word of the column breaks, and the width in which no line wraps."""
        from rich.cells import cell_len

        lines = [line for row in self.rows for line in stacked(row[column]).split("\n")]
        pieces = [piece for line in lines for piece in _unbreakable(line)] + self.header[column].split()
        least = max(map(cell_len, pieces), default=0)
        return least, max(map(cell_len, (*pieces, *lines, self.header[column])), default=0)

    def _grid(self, columns: Sequence[int], width: int, *, title: str | None) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(title=None if title is None else Text(title), box=SIMPLE_HEAD)
        least = [self._widths(column)[0] for column in columns]
        fitted = [self._widths(column)[1] for column in columns]
        while _table_width(fitted) > width and fitted != least:
            can_shrink = [place for place in range(len(columns)) if fitted[place] > least[place]]
            fitted[max(can_shrink, key=lambda place: fitted[place])] -= 1
        for column, column_width in zip(columns, fitted, strict=True):
            justify = "right" if column else "left"
            table.add_column(Text(self.header[column]), justify=justify, width=column_width, overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(stacked(row[column])) for column in columns))
        return table

    def markdown(self) -> str:
        """Return the table as GitHub Markdown."""
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in _each(_markdown_text, (self.header, *self.rows))]
        lines.insert(1, "| " + " | ".join(rule) + " |")
        parts = [f"**{_markdown_text(self.title)}**", "\n".join(lines), *map(_markdown_text, self.notes)]
        return "\n\n".join(parts) + "\n"

    def latex(self) -> str:
        """Return the table as LaTeX, for a document that loads booktabs."""
        header, *rows = [" & ".join(row) + r" \\" for row in _each(_latex_text, (self.header, *self.rows))]
        notes = [rf"\par\smallskip\footnotesize {_latex_text(note)}" for note in self.notes]
        return "\n".join(
            [
                r"% \usepackage{booktabs}",
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_latex_text(self.title)}}}",
                rf"\begin{{tabular}}{{l{'r' * (len(self.header) - 1)}}}",
                *(r"\toprule", header, r"\midrule", *rows, r"\bottomrule"),
                r"\end{tabular}",
                *notes,
                r"\end{table}",
                "",
            ]
        )


def stacked(cell: str) -> str:
    """Return the cell with an interval on a line of its own."""
    return cell.replace(" [", "\n[")


def _unbreakable(line: str) -> list[str]:
    """Return the parts of a line that must not be broken: short lines as a whole, otherwise the words."""
    return [line] if len(line) <= _SHORT_LINE else line.split()


def _table_width(widths: Sequence[int]) -> int:
    """Return the width of a rich table in SIMPLE_HEAD style, which adds blanks around every column."""
    return sum(widths) + 3 * len(widths) + 1


def _each(form: Callable[[str], str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[form(cell) for cell in row] for row in rows]


def _markdown_text(text: str) -> str:
    """Escape Markdown and HTML characters, and replace line breaks, which would end the row."""
    return _MARKDOWN.sub(lambda found: "\\" + found[0], " ".join(text.split()))


def _latex_text(text: str) -> str:
    """Escape TeX characters, and typeset a leading hyphen of a number as a minus."""
    escaped = "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)
