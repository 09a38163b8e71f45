"""The table of a sweep: as CSV with every number, and on a terminal of 80 columns without a cut."""

from __future__ import annotations

import csv
import io
import math

import pytest

from mica_ray.statistics import Interval
from mica_ray.tuning.space import Cell
from mica_ray.tuning.sweep import Sweep
from mica_ray.tuning.sweep_result import CellRow, SweepResult
from mica_ray.tuning.table import cells_frame, sweep_csv, sweep_text_table

NOTHING = Interval(math.nan, math.nan, math.nan)
REFERENCE, BETTER, UNTRAINED = "alpha=0 group_size=8", "alpha=0.5 group_size=16", "alpha=1 group_size=8"


def cell(name: str) -> Cell:
    labels = dict(part.split("=") for part in name.split())
    return Cell(labels, dict(labels))


RESULT = SweepResult(
    rows=(
        CellRow(
            cell(REFERENCE), {"finished": 3}, Interval(52.123456789012345, 48.0, 56.5),
            Interval(52.0, 47.0, 57.0), None, None, (),
        ),
        CellRow(
            cell(BETTER), {"finished": 2, "failed": 1}, Interval(101.5, -98.25, 1e-7),
            Interval(0.1, 0.0, 0.2), Interval(49.5, -40.25, 60.0), Interval(0.875, 0.5, 1.0), (),
        ),
        CellRow(cell(UNTRAINED), {"waiting": 3}, NOTHING, NOTHING, NOTHING, NOTHING, ()),
    ),
    reference=REFERENCE,
    answer="An answer.",
    entries=(),
)  # fmt: skip


def test_csv_has_every_digit_and_empty_fields_for_undefined_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(sweep_csv(RESULT))))
    assert [row["cell"] for row in rows] == [REFERENCE, BETTER, UNTRAINED]
    assert [(row["finished"], row["trials"]) for row in rows] == [("3", "3"), ("2", "3"), ("0", "3")]
    assert rows[0]["interquartile_mean_estimate"] == repr(52.123456789012345)
    assert rows[0]["difference_estimate"] == rows[2]["mean_low"] == ""
    assert [rows[1][f"interquartile_mean_{bound}"] for bound in ("estimate", "low", "high")] == [
        "101.5", "-98.25", "1e-07",
    ]  # fmt: skip
    assert rows[1]["probability_of_improvement_estimate"] == "0.875"


def test_frame_has_a_row_per_cell_and_a_column_per_number() -> None:
    frame = cells_frame(RESULT)
    assert len(frame) == 3 and len(frame.columns) == 3 + 4 * 3
    assert frame["difference_low"].isna().tolist() == [True, False, True]


def test_terminal_of_eighty_columns_shows_every_number_and_heading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    sweep = Sweep(name="ablation", question="Which?", space={"credit.alpha": (0.0, 1.0)}, reference=REFERENCE)
    table = sweep_text_table(sweep, RESULT)
    table.show()
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for text in (*table.header, *(part for row in table.rows for part in row)):
        assert all(word in shown.split() for word in text.split()), text
    for interval in ("[-98.2, 0.0]", "[0.50, 1.00]", "[-40.2, 60.0]"):
        assert interval in shown
    assert "2 of 3" in shown
