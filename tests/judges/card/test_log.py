"""Judgements on disk: one line each, continued after a stop, never mixed with those of other settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mica_ray.chat.ledger import Tally
from mica_ray.judges.card.log import Judged, JudgementLog, JudgementLogError
from mica_ray.types import Judgement, Status
from tests.judges.card.talks import chosen_turns, questions, talk_file

GOOD = Judgement(progress=(1, 0, 0), regress=(0, 0, -1), delta=(1.0, 0.0, -2.0))


def test_answers_are_read_back_and_only_the_rest_is_missing(tmp_path: Path) -> None:
    asked = questions(chosen_turns(talk_file(tmp_path / "talks.jsonl"), 2), None, names=["as_is"])
    log = JudgementLog(tmp_path / "log.jsonl", {"judge": "a"})
    log.record(Judged.of(asked[0], GOOD, Tally(calls=1, seconds=0.5)))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"item": "cut off')  # a process that was killed
    again = JudgementLog(tmp_path / "log.jsonl", {"judge": "a"})
    assert again.missing(asked) == list(asked[1:])
    (read,) = again.answers(asked).values()
    assert read.judgement == GOOD and read.cost["seconds"] == 0.5
    again.record(Judged.of(asked[1], GOOD, None))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_other_settings_are_refused(tmp_path: Path) -> None:
    JudgementLog(tmp_path / "log.jsonl", {"temperature": 0.7})
    with pytest.raises(JudgementLogError, match=r"temperature=0\.7, not 0\.0.*--out DIR"):
        JudgementLog(tmp_path / "log.jsonl", {"temperature": 0.0})


@pytest.mark.parametrize(
    "line", ['{"what": 1}', '{"item": "1", "delta": [1], "progress": null, "regress": null}']
)
def test_a_file_with_something_else_is_an_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(f"{line}\n")
    with pytest.raises(JudgementLogError, match=r"log\.jsonl: not a file of judgements"):
        JudgementLog(tmp_path / "log.jsonl", {})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("the answer was cut off at its token limit; write less (after one repair attempt)", "cut off"),
        ("the answer breaks off within its JSON object", "cut off"),
        ("the answer holds no JSON object", "not one JSON object"),
        ("C_progress_level is missing; A_progress_level is missing", "missing field"),
        ("C_progress_level must be one of 0, 1, 2; got 7", "level out of range"),
        ("A_regress_evidence must be text; got 3", "wrong type"),
        ("the object is copied from the dialogue; rate the reply", "copied from the dialogue"),
        ("something new", "other"),
    ],
)
def test_invalid_answers_have_a_reason(tmp_path: Path, error: str, reason: str) -> None:
    (asked,) = questions(
        chosen_turns(talk_file(tmp_path / "talks.jsonl"), 1), None, repeats=1, names=["as_is"]
    )
    judged = Judged.of(asked, Judgement.failed(Status.INVALID, error), None)
    assert judged.reason == reason
    assert Judged.of(asked, GOOD, None).reason is None


def test_a_line_is_json_with_the_levels(tmp_path: Path) -> None:
    asked = questions(chosen_turns(talk_file(tmp_path / "talks.jsonl"), 1), None, names=["as_is"])
    JudgementLog(tmp_path / "log.jsonl", {}).record(Judged.of(asked[0], GOOD, None))
    fields = json.loads((tmp_path / "log.jsonl").read_text())
    assert fields["progress"] == [1, 0, 0] and fields["delta"] == [1, 0, -2] and fields["status"] == "ok"
