"""`mica credit`: stored dialogues with any estimator; invalid requests are one line and exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mica_ray.cli.commands import main
from mica_ray.cli.credit.estimators import ESTIMATORS, Mixing, named_estimators
from mica_ray.credit import Mica, check_estimator
from tests.evaluation.recorded_files import write
from tests.recordings.stored_files import own_dialogue, run_dialogue

TURN_ONLY = Mica(alpha=1)


def credit(*arguments: str | Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(("credit", *map(str, arguments)))
    assert caught.value.code == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as caught:
        main(("credit", *map(str, arguments)))
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_credit_that_training_gave_comes_out_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "dialogues.jsonl", [own_dialogue(9, 8, 7), own_dialogue(9, 9, 3, lost=[0])])
    credit(tmp_path, "--estimator", "mica", "--estimator", "rloo", "--json", tmp_path / "credit.json")
    record = json.loads((tmp_path / "credit.json").read_text())
    first, second = (row["advantages"] for row in record["dialogues"])
    # Recorded rewards are 2, 2 and (lost), 12. Leave-one-out: 4 - 12 and 12 - 4; a lost turn has no number.
    assert first["rloo"] == pytest.approx([-8, -8])
    assert second["rloo"][0] is None and second["rloo"][1] == pytest.approx(8)
    # Turn 1 at the second index: returns 2 and 12, z = -1 and 1; rewards 2, 2, 12 over the group: mean 16/3,
    # deviation sqrt(200/9), z = -0.7071, -0.7071, 1.4142. Halves of both.
    assert first["mica"] == pytest.approx([-0.35355, -0.85355], abs=1e-4)
    assert second["mica"][1] == pytest.approx(1.20711, abs=1e-4)
    shown = capsys.readouterr().out
    assert "A group is recorded by the run" in shown
    assert "Turns without a judgement: 1" in shown
    assert path.is_file()


def test_published_runs_say_what_a_group_is_and_what_turns_earn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [
        write(tmp_path / f"{model}.jsonl", [run_dialogue(9, *after, model=model)])
        for model, after in {"one": (8, 7), "two": (9, 5)}.items()
    ]
    credit(*paths, "--out", tmp_path / "page.html", "--reward", "idr")
    shown = capsys.readouterr().out
    assert "siblings are dialogues of other models, not samples of one policy" in " ".join(shown.split())
    assert "+1.0 ± 0.0" in shown and "+2.0 ± 2.0" in shown
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")


def test_eighty_columns_break_no_number_and_no_name_of_an_estimator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write(tmp_path / "dialogues.jsonl", [own_dialogue(9, 8, 7), own_dialogue(9, 9, 3)])
    names = ("mica", "grpo", "rloo", "reinforce++-idr", "lambda-returns", "anchor-states")
    credit(tmp_path, *(part for name in names for part in ("--estimator", name)))
    shown = capsys.readouterr().out
    tables = [line for line in shown.splitlines() if line.startswith("  ")]
    assert tables and max(map(len, tables)) <= 80
    # Every table has a row or a column for each estimator, and the correlations have both.
    assert all(shown.split().count(name) >= 4 for name in names)


def test_estimator_of_ones_own_is_named_as_a_reference(tmp_path: Path) -> None:
    path = write(tmp_path / "runs.jsonl", [run_dialogue(9, 8), run_dialogue(9, 5)])
    own = f"{Path(__file__)}:TURN_ONLY"
    credit("compare", path, "--estimator", own, "--estimator", "turn-only", "--json", tmp_path / "c.json")
    pearson = json.loads((tmp_path / "c.json").read_text())["pearson"]
    assert pearson[own]["turn-only"] == pytest.approx(1.0)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "nonzero-turns"])
def test_every_named_estimator_takes_the_options(name: str) -> None:
    (estimator,) = named_estimators([name], Mixing(0.7, 0.9, "batch")).values()
    check_estimator(estimator)
    for field, value in (("gamma", 0.9), ("alpha", 0.7)):
        if name in ("mica", "lambda-returns"):
            assert getattr(estimator, field) == value


def test_what_cannot_be_credited_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write(tmp_path / "runs.jsonl", [run_dialogue(9, 8)])
    lost = write(tmp_path / "lost.jsonl", [own_dialogue(9, 9, lost=[0])])
    (tmp_path / "bad.jsonl").write_text("{\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    for arguments, expected in {
        (tmp_path / "nowhere.jsonl",): "nowhere.jsonl cannot be read",
        (tmp_path,): "contains no dialogues.jsonl",
        (tmp_path / "bad.jsonl",): "bad.jsonl, line 1: not valid JSON",
        (tmp_path / "empty.jsonl",): "contains no dialogue",
        (lost,): "no judged turn",
        (runs, "--estimator", "grop"): "Unknown --estimator grop. Did you mean grpo?",
        (runs, "--estimator", "json:dumps"): "--estimator json:dumps: ",
        (runs, "--estimator", "math:pi"): "is a float. Name an estimator or its class.",
        (runs, "--estimator", "no_such_module:X"): "cannot import no_such_module",
        (runs, "--alpha", "1.5"): "--alpha must be in [0, 1], got 1.5.",
        (runs, "--scope", "world"): "--scope must be 'group' or 'batch', got 'world'.",
        (runs, "--reward", "gold"): "--reward must be 'recorded', 'idr', 'adr', 'sum' or 'potential', got",
        (runs, "--group-by", "recorded"): "records no group",
        (runs, "--out", runs / "page.html"): "page.html: cannot be written",
        (runs, "--json", runs / "credit.json"): "credit.json: cannot be written",
    }.items():
        assert expected in refused(capsys, *arguments)


def test_credit_starts_without_torch_or_ray() -> None:
    code = (
        "import sys; import mica_ray.cli.credit.commands\n"
        "heavy = {'torch', 'ray', 'openai', 'plotly', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
