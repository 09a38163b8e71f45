"""`mica data rate`, then `mica data screen`, then `mica train` on what was kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mica_ray.domains.loader import load_scenarios
from mica_ray.files import read_json_lines
from tests.cli.test_data import judge_file, run
from tests.domains.empa.card_folder import name, write_cards
from tests.small_policy import small_folder

LISTENER = "tests.evaluation.listeners:WarmListener"
HARD, LOST, VALID, OFFICIAL = 3, 4, 37, 5


def judge(folder: Path) -> str:
    return json.dumps(
        {
            "object": "tests.evaluation.card_judges:CardJudge",
            "hard": name(HARD),
            "lost": name(LOST),
            "outage": str(folder / "outage"),
        }
    )


def screen(folder: Path, cards: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    table = folder / "table.json"
    assert code == run(
        "data", "screen", str(cards), "--policy", LISTENER, "--judge", judge(folder), "--actor", "scripted",
        "--director", "scripted", "--out", str(folder / "kept.jsonl"), "--json", str(table), *arguments,
    )  # fmt: skip
    return json.loads(table.read_text())


def test_screened_cards_are_rated_played_kept_and_trained_on(tmp_path: Path) -> None:
    cards = write_cards(
        tmp_path / "d", [2, HARD, LOST, OFFICIAL, VALID], rated=[OFFICIAL], official=[OFFICIAL]
    )
    ratings, out = tmp_path / "rated.jsonl", tmp_path / "kept.jsonl"
    rater = f"{judge_file(tmp_path)}:Patient"
    assert run("data", "rate", str(cards), "--judge", rater, "--out", str(ratings)) == 0
    (tmp_path / "outage").touch()

    found = screen(tmp_path, cards, "--ratings", str(ratings))
    counts = [found[key] for key in ("screened", "kept", "dropped", "undecided", "failed_dialogues")]
    assert counts == [4, 2, 1, 1, 1]
    assert (found["official_held_out"], found["copies_held_out"], found["without_initial_state"]) == (1, 0, 0)
    # The judge failed from turn 2 on, so the card is neither kept nor dropped.
    assert found["cards"][name(LOST)] == {"verdict": "undecided", "successes": 0, "finished": 0}
    assert found["cards"][name(HARD)] == {"verdict": "dropped", "successes": 0, "finished": 1}
    assert found["strata"]["empathy threshold"] == {"high": {"kept": 2, "dropped": 1, "undecided": 1}}
    assert [each.id for each in load_scenarios(out, "empa")] == [name(2), name(VALID)]

    (tmp_path / "outage").unlink()
    before = (tmp_path / "kept-dialogues" / "dialogues.jsonl").read_bytes()
    found = screen(tmp_path, cards, "--ratings", str(ratings))
    after = (tmp_path / "kept-dialogues" / "dialogues.jsonl").read_bytes()
    assert (found["kept"], found["dropped"], found["undecided"]) == (3, 1, 0)
    # Only the dialogue that failed was played.
    assert after.startswith(before) and after.count(b"\n") == before.count(b"\n") + 1
    assert [each.split for each in load_scenarios(out, "empa")] == ["train", "train", "valid"]

    policy = small_folder(tmp_path / "small", tied=True)
    assert run(
        "train", "--dry-run", "--inline", "--set", f"policy={policy}", "--set", "world=empa",
        "--set", f"scenarios_file={out}", "--set", "evaluation.split=valid",
        "--set", "loop.scenarios_per_step=2", "--set", "learner.mini_batches=1",
        "--set", "rollout.context_length=512", "--set", "rollout.sampling.max_tokens=8",
    ) == 0  # fmt: skip


def test_official_cases_are_written_for_the_test_split_only_on_request(tmp_path: Path) -> None:
    cards = write_cards(tmp_path / "d", [2, OFFICIAL], official=[OFFICIAL])
    screen(tmp_path, cards)
    assert [each.id for each in load_scenarios(tmp_path / "kept.jsonl", "empa")] == [name(2)]
    screen(tmp_path, cards, "--with-official")
    found = {each.id: each.split for each in load_scenarios(tmp_path / "kept.jsonl", "empa")}
    assert found == {name(2): "train", name(OFFICIAL): "test"}
    lines = read_json_lines(tmp_path / "kept-dialogues" / "dialogues.jsonl")
    assert [line.fields["scenario"] for line in lines] == [name(2)]


def test_card_that_cannot_be_kept_any_more_is_played_no_further(tmp_path: Path) -> None:
    cards = write_cards(tmp_path / "d", [2, HARD])
    found = screen(tmp_path, cards, "--samples", "3", "--passes", "2")
    # Two successes keep card 2, two failures drop the hard one; the third dialogue is never played.
    assert found["cards"] == {
        name(2): {"verdict": "kept", "successes": 2, "finished": 2},
        name(HARD): {"verdict": "dropped", "successes": 0, "finished": 2},
    }


def test_screening_that_keeps_nothing_fails_and_removes_an_older_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept.jsonl").write_text("old")
    screen(tmp_path, write_cards(tmp_path / "d", [HARD]), code=1)
    assert not (tmp_path / "kept.jsonl").exists()
    assert "No card is kept" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--samples", "2", "--passes", "3"), "passes must be <= samples (2), got 3. Lower it."),
        (("--unjudged-fraction", "1.5"), "unjudged_fraction"),
        (("--ratings", "nowhere.jsonl"), "no such file"),
        (("--set", "allow_test_cards=true"), "no official ones"),
    ],
)
def test_what_cannot_be_screened_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], line: str
) -> None:
    cards = write_cards(tmp_path / "d", [2])
    assert run(
        "data", "screen", str(cards), "--policy", LISTENER, "--judge", "scripted",
        "--out", str(tmp_path / "kept.jsonl"), *arguments,
    ) == 2  # fmt: skip
    error = capsys.readouterr().err
    assert line in error and error.startswith("mica: ") and error.count("\n") == 1


def test_folder_with_official_cards_only_has_nothing_to_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards = write_cards(tmp_path / "d", [2], official=[2])
    assert run("data", "screen", str(cards), "--policy", LISTENER, "--judge", "scripted") == 2
    assert "every card with a P_0 is an official EMPA test case" in capsys.readouterr().err


def test_dialogues_of_another_judge_are_not_mixed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards = write_cards(tmp_path / "d", [2])
    screen(tmp_path, cards)
    assert run(
        "data", "screen", str(cards), "--policy", LISTENER, "--judge", "scripted",
        "--out", str(tmp_path / "kept.jsonl"),
    ) == 2  # fmt: skip
    assert "roles was" in capsys.readouterr().err
