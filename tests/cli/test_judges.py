"""`mica judges` on tables and dialogues that users bring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mica_ray.cli import main
from tests.cli.test_commands import refuse, run
from tests.judges.card.talks import NUM_CANARIES, talk_file

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


JUDGES = "tests.judges.card.scripted_judges"


def card(folder: Path, *options: str, judge: str = "Noisy") -> dict[str, Any]:
    """Run `mica judges card` on six dialogues, and return its JSON."""
    out = folder / "out"
    talks = folder / "talks.jsonl"
    if not talks.exists():
        talk_file(talks)
    command = ("judges", "card", str(talks), "--judge", f"{JUDGES}:{judge}", "--out", str(out), "--inline")
    run(*command, "--turns", "4", "--repeats", "2", *options)
    return json.loads((out / "card.json").read_text())


def test_card_is_written_and_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = card(tmp_path, "--judge", f"{JUDGES}:OrderBiased")
    assert list(record["judges"]) == ["Noisy", "OrderBiased"]
    assert record["raters"] == ["Noisy", "OrderBiased", "recorded"]
    assert record["judges"]["OrderBiased"]["sensitivity"]["axis_order"]["shift"]["C"]["estimate"] == -1
    # 4 turns x (2 repeats, 3 wordings, padding, echo), and the canaries at two places.
    num = 4 * 7 + NUM_CANARIES
    assert record["judges"]["Noisy"]["answers"]["asked"] == num
    lines = (tmp_path / "out" / "Noisy.jsonl").read_text().splitlines()
    assert len(lines) == num
    assert "OrderBiased: not usable" in capsys.readouterr().out
    # The process was killed after ten answers: the same command asks for the others, with the same outcome.
    (tmp_path / "out" / "Noisy.jsonl").write_text("\n".join(lines[:10]) + "\n")
    again = card(tmp_path, "--judge", f"{JUDGES}:OrderBiased")
    shown = capsys.readouterr().out
    assert f"OrderBiased.jsonl: all {num} judgements are there" in " ".join(shown.split())
    assert again["judges"]["Noisy"]["noise_sd"] == record["judges"]["Noisy"]["noise_sd"]


def test_card_asks_only_the_named_conditions(tmp_path: Path) -> None:
    record = card(tmp_path, "--condition", "axis_order")
    assert record["judges"]["Noisy"]["answers"]["asked"] == 4 * 3
    assert record["judges"]["Noisy"]["canaries"] is None


def test_two_judges_of_one_name_are_distinct(tmp_path: Path) -> None:
    record = card(tmp_path, "--judge", f"{JUDGES}:Noisy", "--condition", "axis_order")
    assert list(record["judges"]) == ["Noisy", "Noisy (2)"]
    assert (tmp_path / "out" / "Noisy-2.jsonl").is_file()


@pytest.mark.slow  # MLflow creates its database.
def test_card_is_an_artifact_of_a_store(tmp_path: Path) -> None:
    from mica_ray.tracking.mlflow_store import connect

    uri = f"sqlite:///{tmp_path / 'store.db'}"
    card(tmp_path, "--condition", "axis_order", "--mlflow", uri)
    run_id = (tmp_path / "out" / "mlflow_run.txt").read_text().strip()
    names = {item.path for item in connect(uri).list_artifacts(run_id)}
    assert names == {"card.html", "card.json"}


def test_unusable_requests_for_a_card_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talks = str(talk_file(tmp_path / "talks.jsonl"))
    rest = ("--judge", f"{JUDGES}:Noisy", "--out", str(tmp_path / "out"), "--inline")
    assert "late_canary" in refuse(capsys, "judges", "card", talks, *rest, "--condition", "mood")
    assert "cannot be read" in refuse(capsys, "judges", "card", str(tmp_path / "none.jsonl"), *rest)
    run("judges", "card", talks, *rest, "--turns", "1", "--condition", "echo")
    error = refuse(capsys, "judges", "card", talks, *rest, "--turns", "1", "--temperature", "0")
    assert "holds judgements with temperature=0.7, not 0.0" in error


def test_a_judge_that_never_answers_stops_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talks = str(talk_file(tmp_path / "talks.jsonl"))
    down = '{"object": "tests.judges.card.scripted_judges:Flaky", "failures": 1000000}'
    with pytest.raises(SystemExit) as caught:
        main(["judges", "card", talks, "--judge", down, "--out", str(tmp_path / "out"), "--inline"])
    assert caught.value.code == 1
    assert "Flaky: every call failed. The last error was: too busy" in capsys.readouterr().err
