"""`mica data simulator` as a user sees it: tables, page, figures, JSON, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_data import run
from tests.hostile_texts import ALL_AT_ONCE
from tests.reporting.open_page import HOSTILE

TALK = ("I am so tired of my job.", "My boss does not listen to me.", "I do not know what to do, but I try.")
FAST = ("--draws", "20")
CHINESE = ("我真的好累。", "没有人听我说。")


def spoken(*texts: str) -> list[dict[str, str]]:
    said = [[{"role": "user", "content": text}, {"role": "assistant", "content": "I see."}] for text in texts]
    return [message for pair in said for message in pair]


def dialogues(path: Path, *texts: str, count: int = 10) -> Path:
    """Write dialogues with these messages; those of number n have n more words."""
    rows = [{"messages": spoken(*(text + " so" * number for text in texts))} for number in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_page_figures_and_record_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people, same = (dialogues(tmp_path / f"{name}.jsonl", *TALK) for name in ("people", "same"))
    long = dialogues(tmp_path / "long.jsonl", *(text * 5 for text in TALK))
    out = tmp_path / "out"
    assert run("data", "simulator", str(people), str(same), str(long), "--out", str(out), *FAST) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "the first 3 messages of each dialogue are compared" in shown and "differs" in shown
    record = json.loads((out / "simulator.json").read_text())
    assert (record["human"]["dialogues"], record["human"]["messages"]) == (10, 30)
    lengths = {name: one["measures"]["length"] for name, one in record["simulated"].items()}
    assert (lengths["same"]["differs"], lengths["long"]["differs"]) == (False, True)
    # 7, 7 and 10 words, and 0 to 9 more.
    assert lengths["same"]["human_mean"]["estimate"] == pytest.approx(8 + 4.5)
    assert record["simulated"]["same"]["by_message"]["length"]["mean"] == [11.5, 11.5, 14.5]
    assert {path.name for path in out.iterdir()} == {
        "simulator.html", "simulator.json", "simulator_distances.png", "simulator_turns.png",
    }  # fmt: skip


def test_hostile_texts_are_text_in_the_page(tmp_path: Path) -> None:
    text = f"I am so tired. {HOSTILE} {ALL_AT_ONCE}"
    path = dialogues(tmp_path / "a.jsonl", text, *TALK)
    named = tmp_path / "b<script>$x$.jsonl"
    named.write_bytes(path.read_bytes())
    assert run("data", "simulator", str(path), str(named), "--out", str(tmp_path / "out"), *FAST) == 0
    page = (tmp_path / "out" / "simulator.html").read_text()
    assert "<script>document.title" not in page and "<script>alert" not in page
    assert "&lt;script&gt;document.title" in page and "b&lt;script&gt;$x$" in page


def test_other_language_is_refused_or_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people, bots = dialogues(tmp_path / "p.jsonl", *TALK), dialogues(tmp_path / "b.jsonl", *CHINESE)
    call = ("data", "simulator", str(people), str(bots), "--out", str(tmp_path / "out"), *FAST)
    assert run(*call) == 2
    error = capsys.readouterr().err
    assert "p is in language en and b in zh" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert run(*call, "--across-languages") == 0
    assert "not comparable" in " ".join(capsys.readouterr().out.split())
    record = json.loads((tmp_path / "out" / "simulator.json").read_text())
    assert record["simulated"]["b"]["comparable"] is False
    assert record["simulated"]["b"]["measures"]["length"]["differs"] is None
    assert "not comparable" in (tmp_path / "out" / "simulator.html").read_text()


@pytest.mark.parametrize(
    ("content", "line"),
    [("", "no message of a user"), ('{"x": 1}\n', "needs a list of messages"), (None, "cannot be read")],
)
def test_file_that_cannot_be_compared_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, line: str
) -> None:
    people, other = dialogues(tmp_path / "p.jsonl", *TALK), tmp_path / "x.jsonl"
    if content is not None:
        other.write_text(content)
    assert run("data", "simulator", str(people), str(other), "--out", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert line in error and error.startswith("mica: ") and error.count("\n") == 1
