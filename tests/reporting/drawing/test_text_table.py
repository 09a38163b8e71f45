"""A table's texts stay texts in every form."""

from __future__ import annotations

import pytest

from mica_ray.reporting.drawing.text_table import TextTable

TABLE = TextTable(
    title="Runs & more", header=("", "gain_1"), rows=(("a|b", "-1.50 [-2.00, 3.00]"),), notes=("100 % <b>",)
)


def test_markdown_escapes_what_it_would_read() -> None:
    assert TABLE.markdown() == (
        "**Runs & more**\n\n|  | gain\\_1 |\n| --- | ---: |\n"
        "| a\\|b | -1.50 [-2.00, 3.00] |\n\n100 % \\<b\\>\n"
    )


def test_markdown_makes_no_link_of_a_name() -> None:
    table = TextTable("t", ("", "x"), (("[a](b)\nc", "1"),))
    assert "| [a\\](b) c | 1 |" in table.markdown()


def test_latex_escapes_and_sets_a_minus() -> None:
    assert TABLE.latex().splitlines() == [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\caption{Runs \& more}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r" & gain\_1 \\",
        r"\midrule",
        # A bracket after \\ would be an argument of it.
        r"a\textbar{}b & $-$1.50 {[}$-$2.00, 3.00{]} \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip\footnotesize 100 \% \textless{}b\textgreater{}",
        r"\end{table}",
    ]


def test_latex_leaves_hyphens_and_escapes_backslash_once() -> None:
    assert r"mica-1 \textbackslash{}x\_\{y\}\textasciicircum{}2\textasciitilde{} \#\$" in (
        TextTable("t", ("",), ((r"mica-1 \x_{y}^2~ #$",),)).latex()
    )


def test_screen_reads_no_markup_and_however_narrow_cuts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    TextTable("t", ("", *"abcdef"), (("[bold]a", *["7.5 [1, 9]"] * 6),)).show()
    shown = capsys.readouterr().out
    assert "[bold]a" in shown
    assert shown.count("7.5") == shown.count("[1, 9]") == 6


def test_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="must have 2 cells; got 1"):
        TextTable("t", ("", "x"), (("a",),))
