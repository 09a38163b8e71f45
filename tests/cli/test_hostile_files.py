"""Reports and data checks on files with any text or any bytes: an exit code and lines, no traceback."""

from __future__ import annotations

import json
import os
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mica_ray.cli import main
from tests.domains.empa.card_folder import card, name, write_cards
from tests.hostile_texts import ALL_AT_ONCE, ANY_TEXT, HALF, TEXTS
from tests.runs.written_run import JUDGED, dialogue, turn, write_run

pytestmark = [pytest.mark.slow]
SLOWLY = settings(deadline=None, max_examples=2, suppress_health_check=[HealthCheck.too_slow])


def mica(*arguments: str | Path) -> tuple[int, str]:
    """Run the command line on a terminal that knows only UTF-8; return exit code and output."""
    out = TextIOWrapper(BytesIO(), encoding="utf-8")
    with redirect_stdout(out), redirect_stderr(out), pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out.flush()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.buffer.getvalue().decode()  # type: ignore[attr-defined]


def hostile_run(folder: Path, text: str) -> Path:
    """Write a finished run in which every text is `text`."""
    evidence = {"evidence": {"A_progress_evidence": text, text: text}}
    turns = [
        turn(index, float(index), reply=text, user=text, guidance=text, **(JUDGED | evidence))
        for index in (0, 1)
    ]
    fields = {"scenario": text, "category": text, "domain": text, "difficulty": text, "dominant_axis": "A"}
    good = [dialogue(0, 0, sample, turns, **fields) for sample in (0, 1)]
    failed = dialogue(0, 1, 0, [turn(0, None, judge_error=text)], stop="failed", error=text, **fields)
    write_run(folder, dialogues=[])
    (folder / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (*good, failed)))
    return folder


@SLOWLY
@given(ANY_TEXT)
@example(HALF)
@example("\x00\u2028\u2029\x85")
@example("[/b]$\\")
def test_any_text_is_shown_by_reports(text: str) -> None:
    with TemporaryDirectory() as place:
        folder = hostile_run(Path(place) / "run", text)
        page = Path(place) / "page.html"
        for command in (("report", "turns", folder), ("credit", folder)):
            assert mica(*command, "--out", page)[0] == 0
            page.read_text(encoding="utf-8")
        assert mica("evaluate", "rescore", folder / "dialogues.jsonl")[0] == 0


def test_all_hostile_texts_are_drawn(tmp_path: Path) -> None:
    folder = hostile_run(tmp_path / os.fsdecode(b"run \xff [b] $x$ \xe9"), ALL_AT_ONCE)
    assert mica("report", folder, "--out", tmp_path / "page.html")[0] == 0
    assert mica("report", "figures", folder / "dialogues.jsonl", "--out", tmp_path / "figures")[0] == 0
    code, shown = mica("credit", folder, "--out", tmp_path / "credit.html")
    assert code == 0, shown


@SLOWLY
@given(ANY_TEXT, st.binary(max_size=30))
@example(HALF, b"\xff\xfe")
@example("\x00", b"\xed\xa0\xbd")
@example("[/b]", b"[" * 100_000)
@example(TEXTS[9], b"1" * 5000)
def test_data_check_says_one_line_per_problem(text: str, content: bytes) -> None:
    with TemporaryDirectory() as place:
        folder = write_cards(Path(place) / "d", [1, 2, 3])
        cards = folder / "cards"
        (cards / f"{name(4)}.md").write_bytes(content)
        (cards / f"{name(5)}.md").write_bytes(
            card(5).replace("爱看云", text).encode("utf-8", "surrogatepass")
        )
        (cards / os.fsdecode(b"\xff [b].md")).write_text(card(6))
        (cards / f"{name(7)}.md").mkdir()
        os.symlink("nowhere", cards / f"{name(8)}.md")
        cases = [{"script_id": name(1), "category": text, "difficulty": text, "dominant_axis": "A"}]
        (folder / "case_metadata.json").write_text(json.dumps({"sampled_cases": cases, text: text}))
        (folder / "rated_iedr.jsonl").write_bytes(
            content + b"\n" + json.dumps({text: text}).encode() + b"\n{"
        )
        (folder / "official_cases.txt").write_bytes(content)
        code, shown = mica("data", "check", folder, "--json", Path(place) / "table.json")
        assert code == 1
        assert "Traceback" not in shown
        problems = json.loads((Path(place) / "table.json").read_text())
        files = {flaw["file"] for flaw in problems["wrong"]}
        assert {f"cards/{name(4)}.md", f"cards/{name(7)}.md", f"cards/{name(8)}.md"} <= files
        errors = [line for line in shown.splitlines() if line.startswith("error  ")]
        assert len(errors) >= len(problems["wrong"])
        for file in (
            "character_stories.json",
            "case_metadata.json",
            "iedr_236_cases.json",
            "official30_iedr.json",
        ):
            (folder / file).write_bytes(content)
        code, shown = mica("data", "check", folder)
        assert (code, "Traceback" in shown) == (1, False)


@pytest.mark.parametrize("left", ["missing", "empty", "file"])
def test_folder_that_is_none_is_one_line(tmp_path: Path, left: str) -> None:
    place = tmp_path / "d"
    if left == "empty":
        (place / "cards").mkdir(parents=True)
    if left == "file":
        place.write_text("")
    code, shown = mica("data", "check", place)
    assert (code, len(shown.strip().splitlines())) == (2, 1)
