"""The table of `mica compare`: complete on 80 columns, and with every digit in the CSV."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import pytest
from rich.cells import cell_len

from mica_ray.reporting.runs.comparison import RunRow, run_csv, run_text_table, runs_frame
from mica_ray.statistics import Interval

NOTHING = Interval(math.nan, math.nan, math.nan)
GRPO = RunRow(
    name="grpo-qwen2.5-7b-instruct",
    policy="Qwen/Qwen2.5-7B-Instruct",
    estimator="Grpo",
    reward="IDR",
    steps=1000,
    seeds=(0, 1, 2),
    before=Interval(52.123456789012345, -48.2, 56.7),
    after=Interval(101.5, 98.25, 112.75),
    passes=1210,
    dialogues=4800,
    passed=Interval(0.25, 0.21, 0.3),
    idr=Interval(-0.51, -1.12, 1.22),
    gain=Interval(49.4, -18.1, 126.2),
    against=None,
    verdict=None,
    usd=1234.5,
    contaminated=False,
    failed_dialogues=0,
    unfinished=(),
)
MICA = replace(
    GRPO,
    name="mica-qwen2.5-7b-instruct-lambda",
    estimator="Mica alpha=0.5 gamma=0.85",
    against=Interval(-12.3, -118.1, 26.2),
    verdict="A sentence.",
    usd=None,
    contaminated=True,
    failed_dialogues=14,
    unfinished=("seed 3 unfinished, 12 of 1000 steps",),
)
UNTRAINED = replace(
    GRPO, name="new", seeds=(), before=NOTHING, after=NOTHING, passes=0, dialogues=0, passed=NOTHING,
    idr=NOTHING, gain=NOTHING, usd=None,
)  # fmt: skip


def test_terminal_of_eighty_columns_shows_every_number_and_heading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table = run_text_table((GRPO, MICA, UNTRAINED), base=GRPO.name)
    table.show()
    shown = capsys.readouterr().out
    assert max(map(cell_len, shown.splitlines())) <= 80
    for text in (*table.header, *(cell for row in table.rows for cell in row)):
        assert all(word in shown.split() for word in text.split()), text
    for number in ("[98.2, 112.8]*", "[-118.1, 26.2]", "1210 of 4800, 25 %", "[21, 30]", "1234.50"):
        assert number in shown


def test_csv_has_every_digit_and_empty_fields_for_undefined_numbers() -> None:
    grpo, mica, untrained = csv.DictReader(io.StringIO(run_csv((GRPO, MICA, UNTRAINED))))
    assert grpo["before_estimate"] == repr(52.123456789012345)
    assert (grpo["steps"], grpo["seeds"], grpo["usd"]) == ("1000", "0; 1; 2", "1234.5")
    assert grpo["against_estimate"] == grpo["verdict"] == mica["usd"] == untrained["gain_low"] == ""
    assert (mica["contaminated"], mica["against_low"]) == ("True", "-118.1")
    assert mica["unfinished"] == "seed 3 unfinished, 12 of 1000 steps"
    assert (untrained["passes"], untrained["passed_estimate"], untrained["seeds"]) == ("0", "", "")


def test_frame_has_a_row_per_arm_and_a_column_per_number() -> None:
    frame = runs_frame((GRPO, MICA))
    assert frame["name"].tolist() == [GRPO.name, MICA.name]
    assert frame["against_estimate"].isna().tolist() == [True, False]
