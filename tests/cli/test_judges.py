"""`mica judges` on tables that users bring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_commands import refuse, run

TABLE = "item,judge,score\n1,ada,-1\n1,bob,-1\n2,ada,1\n2,bob,0.5\n3,ada,0.5\n3,bob,-0.5\n"


def test_agreement_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ratings.csv").write_text(TABLE)
    run("judges", "agreement", str(tmp_path / "ratings.csv"), "--json", str(tmp_path / "out.json"))
    record = json.loads((tmp_path / "out.json").read_text())
    # One of three items has ratings of both signs. Steps between levels: 0, 1, 1, so kappa is
    # 1 - (0 + 1 + 1) / 3 / (mean squared step of all nine pairs: (0 + 4 + 1 + 9 + 1 + 4 + 4 + 0 + 1) / 9).
    assert record["sign_disagreement"] == pytest.approx(1 / 3)
    assert record["kappa_quadratic"] == {"ada / bob": pytest.approx(1 - (2 / 3) / (24 / 9))}
    assert (
        record["alpha_ordinal_interval"][0] <= record["alpha_ordinal"] <= record["alpha_ordinal_interval"][1]
    )
    printed = capsys.readouterr().out
    assert "quadratic kappa, ada / bob" in printed and "6 ratings of 3 items by 2 raters" in printed


def test_undefined_statistics_are_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ratings.csv").write_text("item,judge,score\n1,ada,1\n1,bob,1\n2,ada,1\n2,bob,1\n")
    run("judges", "agreement", str(tmp_path / "ratings.csv"), "--json", str(tmp_path / "out.json"))
    assert json.loads((tmp_path / "out.json").read_text())["alpha_ordinal"] is None
    assert "not defined" in capsys.readouterr().out


def test_unusable_table_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ratings.csv").write_text("item,judge,score\n1,ada,good\n1,bob,1\n")
    error = refuse(capsys, "judges", "agreement", str(tmp_path / "ratings.csv"))
    assert "'good' is neither a number nor a known label" in error
