"""`mica evaluate table`: what it prints and writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib.image
import pytest

from tests.cli.test_commands import refuse, run
from tests.reporting.models.stored_results import answered, recorded
from tests.runs.written_run import dialogue, turn, write_lines, write_run

HOSTILE = r"\input{x} 50%_$&#~^ [bold] <b>"
PUBLISHED = {"gemini-2.5-pro": (28, 90.7), "seed-1.6": (2, 43.1), "gpt-4o": (4, 33.7), "qwen3-8b": (0, 12.2)}


def stored(folder: Path) -> list[str]:
    """Write results of two models; the one with the hostile name has EMPA only."""
    trained = write_run(folder / "trained")
    spoken = [dialogue(0, 0, 0, [turn(0, 1.0)], stop="success", dominant_axis="C")]
    write_lines(trained / "evaluation_after.jsonl", spoken)
    asked = answered(folder / "emo", "emobench", "trained", {"EA-en-1": [1.0], "EU-en-1": [0.0, None]})
    published = recorded(folder / "empa.jsonl", {"script_003": True, "script_010": False}, model=HOSTILE)
    return [str(trained), str(asked), str(published)]


def test_table_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    run("evaluate", "table", *stored(tmp_path), "--base", HOSTILE, "--out", str(out))
    printed = capsys.readouterr().out
    assert HOSTILE in " ".join(printed.split()) and "Difference to" in printed
    assert "1 of 2" in printed and "Not comparable with published scores" in printed
    record = json.loads((out / "table.json").read_text())
    rows = {row["model"]: row for row in record["rows"]}
    assert rows["trained"]["scores"]["emobench_overall"]["estimate"] == 50.0
    assert rows[HOSTILE]["scores"]["emobench_ea"] is None
    # The cases of the two models differ, so there is nothing to pair.
    assert rows["trained"]["differences"]["empa_score"] is None and record["base"] == HOSTILE
    pictures = {path.name for path in out.glob("*.png")}
    assert pictures == {"table.png", "figures.png", "success_by_axis.png", "alignment_scores.png"}
    for name in pictures:
        height, width, _ = matplotlib.image.imread(out / name).shape
        assert height > 200 and width > 500, name


def test_latex_is_balanced_and_escapes_names(tmp_path: Path) -> None:
    run("evaluate", "table", *stored(tmp_path), "--out", str(tmp_path / "out"))
    text = (tmp_path / "out" / "table.tex").read_text()
    assert r"\input" not in text and r"50\%\_\$\&\#" in text
    unescaped = re.sub(r"\\[{}]", "", text)
    assert unescaped.count("{") == unescaped.count("}")
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 2
    for block in re.findall(r"\\midrule\n(.*?)\n\\bottomrule", text, re.DOTALL):
        cells = {len(re.findall(r"(?<!\\)&", line)) for line in block.splitlines()}
        assert len(cells) == 1 and all(line.endswith(r"\\") for line in block.splitlines())
    # No EmoBench result of the published run: three cells without a number.
    row = next(line for line in text.splitlines() if r"50\%" in line)
    assert row.count("& -") == 3


def test_base_may_be_a_further_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = answered(tmp_path / "a", "eqbench2", "m", {"1": [60.0], "2": [60.0]})
    base = answered(tmp_path / "b", "eqbench2", "m", {"1": [50.0], "2": [50.0]})
    run("evaluate", "table", str(one), "--base", f"base={base}", "--json", str(tmp_path / "t.json"))
    rows = json.loads((tmp_path / "t.json").read_text())["rows"]
    assert [row["model"] for row in rows] == ["m", "base"]
    assert rows[0]["differences"]["eqbench2"] == {"estimate": 10.0, "low": 10.0, "high": 10.0, "items": 2}
    assert rows[1]["differences"] == {} and "+10.0" in capsys.readouterr().out
    run("evaluate", "table", f"new={one}", f"old={base}", "--base", str(base))
    assert "Difference to old" in capsys.readouterr().out
    assert "no such folder" in refuse(capsys, "evaluate", "table", str(one), "--base", "absent")


def test_published_runs_have_their_published_scores(
    benchmark_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted((benchmark_data / "empa" / "recorded_runs").glob("*.jsonl"))
    run("evaluate", "table", *map(str, files), "--json", str(tmp_path / "table.json"))
    rows = {row["model"]: row for row in json.loads((tmp_path / "table.json").read_text())["rows"]}
    found = {
        name: (row["scores"]["empa_passed"]["estimate"], round(row["scores"]["empa_score"]["estimate"], 1))
        for name, row in rows.items()
    }
    assert found == PUBLISHED
    assert all(not result["reasons_not_comparable"] for row in rows.values() for result in row["results"])
