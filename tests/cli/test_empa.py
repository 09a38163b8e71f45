"""`mica evaluate empa` in a small world: finished cases are kept, failed ones are repeated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mica_ray.cli import main
from mica_ray.domains.emotional_support import EMOTIONAL_SUPPORT
from tests.domains.empa.card_folder import name, write_cards
from tests.small_policy import small_folder

DOMAIN = "mica_ray.domains.emotional_support:EMOTIONAL_SUPPORT"
LISTENER = "tests.evaluation.listeners:WarmListener"


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(("evaluate", "empa", "--domain", DOMAIN, "--judge", "scripted", *arguments))
    assert caught.value.code == 0


def refuse(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    with pytest.raises(SystemExit) as caught:
        main(("evaluate", "empa", "--judge", "scripted", *arguments))
    assert caught.value.code == code
    error = capsys.readouterr().err
    assert error.startswith("mica: ") and error.count("\n") == 1
    return error


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "dialogues.jsonl").read_text().splitlines()]


def test_second_call_plays_only_what_is_missing(tmp_path: Path) -> None:
    out, table = tmp_path / "out", tmp_path / "table.json"
    run("--policy", LISTENER, "--cases", "2", "--out", str(out))
    first = (out / "dialogues.jsonl").read_bytes()
    run("--policy", LISTENER, "--cases", "3", "--out", str(out), "--json", str(table))
    assert (out / "dialogues.jsonl").read_bytes().startswith(first)
    cases = [scenario.id for scenario in EMOTIONAL_SUPPORT.split("test")[:3]]
    assert sorted(str(row["scenario"]) for row in rows(out)) == sorted(cases)
    record = json.loads(table.read_text())[LISTENER]
    assert (record["cases"], len(record["indices"]), record["failed_dialogues"]) == (3, 9, 0)
    assert json.loads((out / "score.json").read_text())[LISTENER]["epm_q"] == record["epm_q"]


def test_case_cut_off_by_a_crash_is_played_again_and_comes_out_the_same(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("--policy", LISTENER, "--cases", "2", "--out", str(out))
    whole = (out / "dialogues.jsonl").read_bytes()
    (out / "dialogues.jsonl").write_bytes(whole[:-40])
    run("--policy", LISTENER, "--cases", "2", "--out", str(out))
    assert (out / "dialogues.jsonl").read_bytes() == whole


def test_cards_are_played_by_the_rules_of_the_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards, table = write_cards(tmp_path / "cards", (1, 2, 3), official=(1, 2)), tmp_path / "table.json"
    with pytest.raises(SystemExit) as caught:
        main(
            ("evaluate", "empa", "--cards", str(cards), "--policy", LISTENER, "--judge", "scripted",
             "--out", str(tmp_path / "out"), "--json", str(table))
        )  # fmt: skip
    assert caught.value.code == 0
    played = rows(tmp_path / "out")
    # The two official cards of three; the scripted person opens, as the cards bring no opening.
    assert sorted(str(row["scenario"]) for row in played) == [name(1), name(2)]
    assert [row["domain"] for row in played] == ["empa"] * 2
    # It looks for an ending from turn 12 on, where the embedded world does from turn 4.
    turns = [row["turns"] for row in played]
    assert all(isinstance(of_one, list) and 12 <= len(of_one) <= 45 for of_one in turns)
    record = json.loads(table.read_text())[LISTENER]
    assert record["contaminated"] is False
    # The benchmark's own sampling and rules; but two cases of our own, and scripted roles.
    assert record["reasons_not_comparable"] == [
        "30 of the 30 official cases are missing", "2 cases are not official ones",
        *(f"{role} scripted, not gemini-2.5-pro" for role in ("judge", "director", "actor")),
    ]  # fmt: skip
    assert "Not comparable with published EMPA scores: 30 of the 30 official" in capsys.readouterr().out


def test_failed_case_is_said_and_left_to_the_next_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, lost = tmp_path / "out", EMOTIONAL_SUPPORT.split("test")[1]
    deaf = json.dumps({"object": LISTENER, "deaf_to": lost.opening})
    run("--policy", deaf, "--cases", "3", "--out", str(out))
    assert f"{lost.id}: failed: the listener is gone" in capsys.readouterr().out
    assert lost.id not in [row["scenario"] for row in rows(out)]
    assert json.loads((out / "failed.jsonl").read_text())["stop"] == "failed"


def test_evaluation_in_which_every_case_fails_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deaf = json.dumps({"object": LISTENER, "deaf_to": ""})
    error = refuse(
        capsys, "--domain", DOMAIN, "--policy", deaf, "--cases", "2", "--out", str(tmp_path), code=1
    )
    assert error == "mica: Every case failed. The last error was: the listener is gone\n"


def test_folder_of_other_settings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--policy", LISTENER, "--cases", "1", "--out", str(tmp_path))
    error = refuse(
        capsys, "--domain", DOMAIN, "--policy", LISTENER, "--out", str(tmp_path), "--set", "evaluation.seed=3"
    )
    assert "seed was 20000 and is now 3. Choose another folder with --out DIR." in error


def test_folder_in_which_nothing_was_finished_takes_other_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deaf = json.dumps({"object": LISTENER, "deaf_to": ""})
    refuse(capsys, "--domain", DOMAIN, "--policy", deaf, "--cases", "1", "--out", str(tmp_path), code=1)
    run("--policy", LISTENER, "--cases", "1", "--out", str(tmp_path), "--set", "evaluation.seed=3")
    assert len(rows(tmp_path)) == 1
    assert json.loads((tmp_path / "settings.json").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ("--policy", LISTENER, "--cases", "none"),
            "--cases must be official, all or a number > 0, got 'none'.",
        ),
        (("--policy", '{"model": '), "valid JSON"),
        (("--policy", '{"url": "x"}'), "Unknown key url of Endpoint"),
        (("--policy", "vllm:some/model"), "this form is only for roles"),
        (("--policy", "./nowhere"), "no such folder"),
        (("--policy", LISTENER, "--domain", "mica_ray.domains:NONE"), "has no NONE"),
        (("--policy", '{"model": "m", "api_key_env": "NO_SUCH_KEY"}'), "NO_SUCH_KEY is not set"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], problem: str
) -> None:
    assert problem in refuse(capsys, "--domain", DOMAIN, "--out", str(tmp_path / "out"), *arguments)


def test_model_folder_plays_in_a_local_engine_with_the_same_file_and_score(tmp_path: Path) -> None:
    folder, out = small_folder(tmp_path / "small", tied=True), tmp_path / "out"
    run(
        "--policy", str(folder), "--cases", "1", "--out", str(out), "--inline",
        "--set", "rollout.sampling.max_tokens=4", "--set", "rollout.context_length=512",
    )  # fmt: skip
    (row,) = rows(out)
    turns = row["turns"]
    assert isinstance(turns, list) and turns[0]["reply_tokens"] <= 4
    assert json.loads((out / "score.json").read_text())[str(folder)]["cases"] == 1
