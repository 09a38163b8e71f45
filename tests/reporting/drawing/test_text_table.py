"""A table keeps every text in the terminal, in Markdown and in LaTeX."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

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
        # TeX would read a bracket after \\ as its argument.
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
    with pytest.raises(ValueError, match="must have 2 cells, got 1"):
        TextTable("t", ("", "x"), (("a",),))


LONG = TextTable(
    title="Runs before and after training",
    header=("", "credit", "before", "EPM-Q after", "gain", "passed", "against grpo-qwen2.5-7b", "remarks"),
    rows=(
        (
            "mica-qwen2.5-7b-lambda-returns", "Mica alpha=0.5 gamma=0.85", "-52.31 [-148.12, 156.20]",
            "110.3 [101.1, 121.1]*", "+12.31 [-18.12, 26.20]", "1210 of 4800, 25 % [21, 30]",
            "-12.31 [-18.12, 26.20]", "seed 3 unfinished, 12 of 100 steps; 4 dialogues failed",
        ),
        ("短い名前", "Grpo", "1.0 [0.0, 2.0]", "-", "-", "-", "-", ""),
    ),
)  # fmt: skip


def test_eighty_columns_cut_no_word_no_number_and_no_interval(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    LONG.show()
    shown = capsys.readouterr().out
    assert max(cell_len(line) for line in shown.splitlines()) <= 80
    for text in (*LONG.header, *(cell for row in LONG.rows for cell in row)):
        assert all(word in shown.split() for word in text.split()), text
        number, _, interval = text.partition(" [")
        assert number in shown if interval else True
        assert f"[{interval}" in shown if interval else True
    # The columns need several blocks, and each block names the rows.
    assert shown.count("mica-qwen2.5-7b-lambda-returns") == shown.count("短い名前") > 1
    assert shown.count("Runs before and after training") == 1


def test_wide_terminal_shows_all_columns_in_one_block(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    LONG.show()
    assert capsys.readouterr().out.count("mica-qwen2.5-7b-lambda-returns") == 1
