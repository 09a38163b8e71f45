"""Our own logs and the published runs are read as the same kind of dialogue."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mica_ray.cli.commands import main
from mica_ray.evaluation.epm_q import scores_of
from mica_ray.recordings.recorded_dialogue import RecordingError, by_model
from mica_ray.reporting.dialogues.files import read_dialogue_files

OWN: dict[str, object] = {
    "scenario": "es-1",
    "stop": "collapse",
    "initial_state": [-5, -1, 0],
    "turns": [
        {"user": "hi", "reply": "hello", "progress": [2, 0, 0], "regress": [0, 0, 0], "delta": [3, 0, 0],
         "state": [-2, -1, 0], "reward": 3.0},
        {"user": "so", "reply": "yes", "progress": None, "regress": None, "delta": None,
         "state": [-2, -1, 0], "reward": None},
    ],
}  # fmt: skip
RUN: dict[str, object] = {
    "model": "tested",
    "script_id": "script_7",
    "termination_reason": "EPM v2.0 Success: reached",
    "trajectory": [
        {"turn": 0, "P_t": [-5, -1, 0], "levels": {}},
        {"turn": 1, "P_t": [-2, -3, 0], "levels": {"C_Prog_level": 2, "A_Neg_level": -1, "odd": "text"}},
        {"turn": 2, "P_t": [-2, -3, 0], "levels": {}},
    ],
    "history": [
        {"role": "actor", "content": "你好"}, {"role": "test_model", "content": "我在"},
        {"role": "actor", "content": "嗯"}, {"role": "test_model", "content": "说吧"},
    ],
}  # fmt: skip


def write(path: Path, *records: object) -> Path:
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n\n")
    return path


def test_own_log_is_read(tmp_path: Path) -> None:
    (dialogue,) = read_dialogue_files([write(tmp_path / "run-a.jsonl", OWN)]).dialogues
    assert (dialogue.model, dialogue.scenario, dialogue.outcome) == ("run-a", "es-1", "failure")
    assert dialogue.dominant_axis == "C"  # the deepest deficit
    np.testing.assert_array_equal(dialogue.judged, [True, False])
    np.testing.assert_array_equal(dialogue.turn_rewards, [3, np.nan])
    np.testing.assert_array_equal(dialogue.progress, [[2, 0, 0], [0, 0, 0]])
    assert dialogue.talk == (("hi", "hello"), ("so", "yes"))


def test_published_run_is_read(tmp_path: Path) -> None:
    (dialogue,) = read_dialogue_files([write(tmp_path / "x.jsonl", RUN)]).dialogues
    assert (dialogue.model, dialogue.scenario, dialogue.outcome) == ("tested", "script_7", "success")
    np.testing.assert_array_equal(dialogue.judged, [True, False])
    np.testing.assert_array_equal(dialogue.progress[0], [2, 0, 0])
    np.testing.assert_array_equal(dialogue.regress[0], [0, -1, 0])
    assert dialogue.talk == (("你好", "我在"), ("嗯", "说吧"))


def test_dominant_axis_is_taken_from_the_metadata_beside_the_files(tmp_path: Path) -> None:
    cases = {"sampled_cases": [{"script_id": "script_7", "dominant_axis": "P"}]}
    (tmp_path / "case_metadata.json").write_text(json.dumps(cases))
    (dialogue,) = read_dialogue_files([write(tmp_path / "x.jsonl", RUN)]).dialogues
    assert dialogue.dominant_axis == "P"


def test_failed_and_empty_dialogues_are_counted_and_not_drawn(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", OWN, OWN | {"stop": "failed"}, OWN | {"turns": []})
    found = read_dialogue_files([path])
    assert (len(found.dialogues), found.num_left_out) == (1, 2)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"a": 1}, "line 2: is in no known format: "),
        ([1], "line 2: must be a JSON object"),
        (OWN | {"initial_state": [1, 2]}, "line 2: field 'initial_state' must be three numbers"),
        (OWN | {"turns": [3]}, "line 2: field 'turns': entry 0 must be an object"),
        (OWN | {"dominant_axis": "X"}, "line 2: dominant_axis must be C, A or P, got 'X'"),
        (RUN, "line 2: is in format run, but line 1 is in format own"),
    ],
)
def test_wrong_line_is_named(tmp_path: Path, record: object, problem: str) -> None:
    path = write(tmp_path / "x.jsonl", OWN, record)
    with pytest.raises(RecordingError) as caught:
        read_dialogue_files([path])
    assert str(caught.value).startswith(f"{path}, {problem}")


def test_file_without_dialogues_and_missing_file_are_named(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.jsonl")
    with pytest.raises(RecordingError, match="contains no dialogue"):
        read_dialogue_files([empty])
    failed = write(tmp_path / "failed.jsonl", OWN | {"stop": "failed"})
    with pytest.raises(RecordingError, match="no dialogue to draw"):
        read_dialogue_files([failed])
    with pytest.raises(RecordingError, match="cannot be read"):
        read_dialogue_files([tmp_path / "none.jsonl"])


def test_published_runs_are_read_whole_and_score_as_published(benchmark_data: Path) -> None:
    folder = benchmark_data / "empa" / "recorded_runs"
    found = read_dialogue_files(sorted(folder.glob("*.jsonl")))
    published = {
        "gemini-2.5-pro": (90.7, 28),
        "seed-1.6": (43.1, 2),
        "gpt-4o": (33.7, 4),
        "qwen3-8b": (12.2, 0),
    }
    groups = by_model(found.dialogues)
    assert {model: len(members) for model, members in groups.items()} == dict.fromkeys(sorted(published), 30)
    for model, (score, passed) in published.items():
        assert np.mean([one.score for one in scores_of(groups[model])]) == pytest.approx(score, abs=0.1)
        assert sum(one.outcome == "success" for one in groups[model]) == passed
        axes = [one.dominant_axis for one in groups[model]]
        assert [axes.count(axis) for axis in "CAP"] == [10, 10, 10]


def test_command_draws_the_files_and_names_what_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "run.jsonl", OWN)
    with pytest.raises(SystemExit) as ended:
        main(["report", "figures", str(path), "--out", str(tmp_path / "out")])
    assert ended.value.code == 0
    assert "1 dialogues: 7 PNG files" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "out" / "figures.html").stat().st_size > 100_000
    with pytest.raises(SystemExit) as ended:
        main(["report", "figures", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "none.jsonl cannot be read" in capsys.readouterr().err
