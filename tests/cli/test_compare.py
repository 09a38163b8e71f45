"""`mica compare` on run folders with scores chosen by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from mica_ray.cli import main
from mica_ray.config.run_config import RunConfig
from mica_ray.credit import Mica
from tests.runs.run_folders import run_folder

MICA = RunConfig()
TURN = RunConfig(credit=Mica(alpha=1.0))


def seeded(config: RunConfig, seed: int) -> RunConfig:
    return config.model_copy(update={"seed": seed})


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two seeds of one arm, a run of another arm trained on test cards, and an unfinished run."""
    one, two = (seeded(MICA, seed) for seed in (0, 1))
    return [
        run_folder(tmp_path / "one", config=one, before=[10, 20], after=[40, 60], usd=1.5),
        run_folder(tmp_path / "two", config=two, before=[10, 20], after=[50, 70], usd=2.0),
        run_folder(
            tmp_path / "turn",
            config=TURN.model_copy(update={"contaminated": True}),
            before=[10, 20],
            after=[30, 30],
        ),
        run_folder(tmp_path / "late", config=seeded(TURN, 7), before=[10, 20], after=None, steps_done=3),
    ]


def compare(*arguments: object) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["compare", *map(str, arguments)])
    assert caught.value.code == 0


def refuse(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["compare", *map(str, arguments)])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("mica: ") and error.count("\n") == 1
    return error


def test_runs_that_differ_in_their_seed_are_one_row(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(*runs, "--csv", tmp_path / "t.csv", "--json", tmp_path / "t.json")
    rows = {row["name"]: row for row in csv.DictReader((tmp_path / "t.csv").open())}
    mica = next(row for row in rows.values() if row["estimator"] == "Mica" and row["contaminated"] == "False")
    assert (mica["seeds"], mica["steps"], mica["reward"]) == ("0; 1", "22", "IDR")
    # Before: 15 in both seeds. After: a 45, b 65. Passed, from 50 on: a once, b twice, two dialogues each.
    assert [float(mica[f"{name}_estimate"]) for name in ("before", "after", "gain")] == [15, 55, 40]
    assert (mica["passes"], mica["dialogues"], float(mica["usd"])) == ("6", "8", 3.5)
    assert float(mica["idr_estimate"]) == pytest.approx(0.55)
    assert len(json.loads((tmp_path / "t.json").read_text())["rows"]) == len(rows)
    screen = capsys.readouterr().out
    assert "55.0" in screen
    assert "seed 7 unfinished, 3 of 22 steps" in screen
    assert "* contaminated: official EMPA test cases were training scenarios" in screen
    assert "Mica alpha=1.0" in screen


def test_base_gives_paired_differences_and_sentences(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(
        runs[2],
        *("--against", runs[0], "--against", runs[1]),
        *("--markdown", tmp_path / "t.md", "--latex", tmp_path / "t.tex", "--json", tmp_path / "t.json"),
    )
    rows = json.loads((tmp_path / "t.json").read_text())["rows"]
    # One seed against two, of which seed 0 is shared: 30 - 40 and 30 - 60.
    assert rows[0]["against"] == {"estimate": -20.0, "low": -30.0, "high": -10.0}
    assert rows[1]["against"] is None
    sentence = rows[0]["verdict"]
    assert "in EPM-Q: -20.00, 95 % interval -30.00 to -10.00; paired by 2 cases and 1 seed" in sentence
    assert sentence in capsys.readouterr().out
    assert "-20.0 [-30.0, -10.0]" in (tmp_path / "t.md").read_text()
    assert r"$-$20.0 {[}$-$30.0, $-$10.0{]}" in (tmp_path / "t.tex").read_text()


def test_arms_of_one_name_are_told_apart(tmp_path: Path) -> None:
    names = {"a": MICA, "b": TURN, "c": RunConfig(name="other")}
    folders = [
        run_folder(tmp_path / name, config=config, before=[1], after=[2]) for name, config in names.items()
    ]
    compare(*folders, "--json", tmp_path / "t.json")
    found = [row["name"] for row in json.loads((tmp_path / "t.json").read_text())["rows"]]
    assert found == ["embedded alpha=0.5", "embedded alpha=1.0", "other"]


def test_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{tmp_path} has no config.json" in refuse(capsys, tmp_path)


def test_broken_file_of_a_run_is_named(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    (runs[0] / "evaluation_after.json").write_text("{")
    assert f"{runs[0]}/evaluation_after.json cannot be read" in refuse(capsys, runs[0])


def test_one_seed_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [run_folder(tmp_path / name, config=MICA, before=[1], after=[2]) for name in "ab"]
    assert f"has the same config and seed as {folders[0]}" in refuse(capsys, *folders)


def test_base_that_has_not_finished_is_refused(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert "has not finished" in refuse(capsys, runs[0], "--against", runs[3])


def test_base_of_two_arms_is_refused(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    error = refuse(capsys, runs[3], "--against", runs[0], "--against", runs[2])
    assert "differ in more than their seed" in error


def test_file_that_cannot_be_written_is_named(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be written" in refuse(capsys, runs[0], "--csv", "/proc/none/t.csv")
