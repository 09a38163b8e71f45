"""A table of texts for the terminal, Markdown and LaTeX. What stands in it is its caller's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_WIDEST = 1000
"""Characters of the widest table."""
_MARKDOWN = re.compile(r"([\\`*_<>|#~])|\](?=\()")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TextTable:
    """Plain texts; each form escapes what it would read as markup."""

    title: str
    header: tuple[str, ...]
    """[K]; the first column is set flush left, the others right."""
    rows: tuple[tuple[str, ...], ...]
    """[R][K]."""
    notes: tuple[str, ...] = ()
    """Lines below the table."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"rows must have {len(self.header)} cells; got {len(row)}: {row}")

    def show(self) -> None:
        """Print title, header and rows at their whole width, which a narrow terminal wraps."""
        from rich.console import Console

        grid = self._grid()
        needed = Console(width=_WIDEST).measure(grid).maximum
        Console(width=max(Console().width, needed)).print(grid)

    def _grid(self) -> Table:
        """Lay out with rich, intervals below their estimates; notes are left out."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(self.title), box=SIMPLE_HEAD)
        for index, column in enumerate(self.header):
            # Whole, however narrow the screen: half a number is a wrong number.
            table.add_column(Text(column), justify="right" if index else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*(Text(cell.replace(" [", "\n[")) for cell in row))
        return table

    def markdown(self) -> str:
        """Write it as GitHub Markdown."""
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in _each(_markdown_text, (self.header, *self.rows))]
        lines.insert(1, "| " + " | ".join(rule) + " |")
        parts = [f"**{_markdown_text(self.title)}**", "\n".join(lines), *map(_markdown_text, self.notes)]
        return "\n\n".join(parts) + "\n"

    def latex(self) -> str:
        """Write it as a LaTeX table, for a document that loads booktabs."""
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


def _each(form: Callable[[str], str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[form(cell) for cell in row] for row in rows]


def _markdown_text(text: str) -> str:
    """Escape what Markdown and HTML would read; a line break would end the row."""
    return _MARKDOWN.sub(lambda found: "\\" + found[0], " ".join(text.split()))


def _latex_text(text: str) -> str:
    """Escape what TeX would read, and set a minus as one."""
    escaped = "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)
