"""`mica data` as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mica_ray.cli import main
from mica_ray.domains.empa.cards import read_cards
from tests.domains.empa.card_folder import name, real_cards, write_cards
from tests.domains.empa.test_rater import rating_json

JUDGE = """
from dataclasses import dataclass

from mica_ray.chat.model import ChatError, ChatReply


@dataclass(frozen=True)
class Patient:
    async def chat(self, messages, sampling, schema=None):
        return ChatReply({answer!r}, "patient")


@dataclass(frozen=True)
class Absent:
    async def chat(self, messages, sampling, schema=None):
        raise ChatError("judge-1 at nowhere: down", kind="infrastructure", endpoint="judge-1")
"""


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def judge_file(folder: Path) -> Path:
    path = folder / "judge.py"
    path.write_text(JUDGE.format(answer=rating_json()))
    return path


def test_check_lists_everything_that_is_wrong_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_cards(tmp_path / "d", range(2, 8), rated=[2, 3], official=[3])
    (folder / "cards" / f"{name(4)}.md").write_text("")
    (folder / "cards" / f"{name(5)}.md").write_bytes(b"\xff\xfe")
    assert run("data", "check", str(folder), "--json", str(tmp_path / "table.json")) == 1
    shown = capsys.readouterr().out
    assert "4 cards, 2 with P_0, 2 errors" in shown
    assert "error  cards/script_9004.md: text: the file is empty; write the card or remove the file" in shown
    assert "error  cards/script_9005.md: encoding: is not UTF-8 (byte 0); save the card as UTF-8" in shown
    table = json.loads((tmp_path / "table.json").read_text())
    assert (table["num_cards"], table["num_with_initial_state"]) == (4, 2)
    assert [item["file"] for item in table["wrong"]] == ["cards/script_9004.md", "cards/script_9005.md"]
    assert table["strata"]["split"]["test"] == {"cards": 1, "with_initial_state": 1}
    assert table["strata"]["dominant axis"] == {
        "A": {"cards": 2, "with_initial_state": 2},
        "unknown": {"cards": 2, "with_initial_state": 0},
    }
    assert table["near_duplicates"] == []


def test_check_of_sound_cards_passes(tmp_path: Path) -> None:
    assert run("data", "check", str(write_cards(tmp_path / "d", [2, 3], official=[3]))) == 0


def test_rate_fills_in_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_cards(tmp_path / "d", range(2, 6), rated=[2]), tmp_path / "mine.jsonl"
    judge, table = f"{judge_file(tmp_path)}:Patient", tmp_path / "table.json"
    rate = ("data", "rate", str(folder), "--judge", judge, "--out", str(out))
    assert run(*rate, "--set", "roles.deadline_seconds=0") == 2
    assert "roles.deadline_seconds" in capsys.readouterr().err
    assert run(*rate, "--limit", "2", "--set", "roles.deadline_seconds=900") == 0
    assert run(*rate, "--json", str(table)) == 0
    record = json.loads(table.read_text())
    assert (record["rated"], record["kept"], record["failed"]) == (1, 2, {})
    assert "rated before" in capsys.readouterr().out
    assert all(item.given is not None for item in read_cards(folder, ratings=out).cards)


@pytest.mark.parametrize(
    ("judge", "line"),
    [
        ("scripted", "--judge scripted: cannot rate cards. Name an endpoint, vllm:MODEL or module:CLASS."),
        ("{file}:Absent", "rated no card. First failure: script_9002: judge-1 at nowhere: down"),
        (
            '{{"model": "m", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "NO_SUCH_KEY"}}',
            "NO_SUCH_KEY is not set",
        ),
        ("gpt", "a role must be 'scripted'"),
    ],
)
def test_judge_that_cannot_rate_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], judge: str, line: str
) -> None:
    folder = write_cards(tmp_path / "d", [2], rated=[])
    judge = judge.format(file=judge_file(tmp_path))
    assert run("data", "rate", str(folder), "--judge", judge, "--out", str(tmp_path / "o.jsonl")) == 2
    error = capsys.readouterr().err
    assert line in error and error.startswith("mica: ") and error.count("\n") == 1


def test_missing_folder_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "check", "./nowhere") == 2
    assert capsys.readouterr().err == (
        "mica: cards ./nowhere: no such folder. Set cards to a folder or a hub dataset id.\n"
    )


def test_published_cards_are_sound(tmp_path: Path) -> None:
    assert run("data", "check", str(real_cards()), "--json", str(tmp_path / "table.json")) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert (table["num_cards"], table["wrong"], table["near_duplicates"]) == (1010, [], [])
    assert table["strata"]["split"]["test"]["cards"] == 30
    assert table["strata"]["category"]["人际关系"]["cards"] == 5
