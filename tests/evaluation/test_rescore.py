"""Recorded dialogues scored from files: irregular records are read or named, published scores reproduced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mica_ray.evaluation.emotion_score import EmotionScore, rise_auc_of_previous
from mica_ray.evaluation.epm_q import INDEX_NAMES
from mica_ray.evaluation.rescore import ModelScore
from mica_ray.evaluation.rescore_tables import rescore_record, rescore_tables
from mica_ray.evaluation.rescored_files import Rescored, rescore
from mica_ray.recordings.recorded_dialogue import RecordingError
from mica_ray.recordings.transcript import transcript
from mica_ray.types import Judgement, Scenario, Status, Stop, Trajectory, Turn
from tests.evaluation.recorded_files import (
    RUN_SCORE,
    emotion_case,
    level_fields,
    points_of,
    run_case,
    write,
)

PUBLISHED = {"gemini-2.5-pro": (90.7, 28), "seed-1.6": (43.1, 2), "gpt-4o": (33.7, 4), "qwen3-8b": (12.2, 0)}
"""EPM-Q as printed, and passes as the files have them."""


def score_of(*paths: Path, model: str | None = None) -> ModelScore:
    results = rescore(paths, seed=0)
    found = [item.score for item in results if model in (None, item.model)]
    assert len(found) == 1 and isinstance(found[0], ModelScore)
    return found[0]


def test_published_case_has_the_score_done_by_hand(tmp_path: Path) -> None:
    score = score_of(write(tmp_path / "runs.jsonl", [run_case()]))
    assert score.epm_q.estimate == pytest.approx(RUN_SCORE, abs=1e-3)
    assert score.indices["positive"].estimate == pytest.approx(100 / 3)
    assert score.alignment.estimate == pytest.approx(0.5)  # cosines 1 and 0
    assert score.alignment_dynamic.estimate == pytest.approx(0.5)  # All deficits are on C: one direction.
    assert (score.passed, len(score.cases), score.notes) == (0, 1, ())


def test_record_has_the_alignment_with_both_directions(tmp_path: Path) -> None:
    case = run_case(P_0=[-3, -4, 0])
    moves = ([-3, -4, 0], [-3, 0, 0], [0, 0, 0])
    for point, state in zip(points_of(case), moves, strict=True):
        point["P_t"] = state
    (record,) = rescore_record(rescore([write(tmp_path / "a.jsonl", [case])], seed=0)).values()
    # Cosines 4/5 and 3/5; 4/5 and 1 from the state before each turn.
    assert record["alignment"] == pytest.approx(0.7)
    assert record["alignment_dynamic"] == pytest.approx(0.9)
    assert record["by_case"]["script_001"]["alignment_dynamic"] == pytest.approx(0.9)  # type: ignore[index]


def test_order_of_keys_and_turns_and_the_form_of_the_file_change_nothing(tmp_path: Path) -> None:
    case = run_case()
    points_of(case).reverse()
    turned = dict(reversed(case.items()))
    text = json.dumps(turned, ensure_ascii=False)
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{text}\r\n\r\n  \r\n".encode())
    assert score_of(path).epm_q.estimate == pytest.approx(RUN_SCORE, abs=1e-3)


def test_stray_level_is_passed_over_and_named_with_case_and_turn(tmp_path: Path) -> None:
    case = run_case("script_063")
    points_of(case)[1]["levels"] = level_fields(progress=(2, 0, 0)) | {"ability_level": "L1"}
    score = score_of(write(tmp_path / "a.jsonl", [case]))
    assert score.epm_q.estimate == pytest.approx(RUN_SCORE, abs=1e-3)
    assert score.notes == ("script_063, turn 1: unknown level ability_level = 'L1': ignored",)


def test_level_written_as_text_counts_and_one_off_the_scale_does_not(tmp_path: Path) -> None:
    case = run_case()
    levels = level_fields(progress=(2, 0, 0)) | {"C_Prog_level": "2", "A_Prog_level": 7}
    points_of(case)[1]["levels"] = levels
    score = score_of(write(tmp_path / "a.jsonl", [case]))
    assert score.epm_q.estimate == pytest.approx(RUN_SCORE, abs=1e-3)
    assert score.notes == ("script_001, turn 1: level A_Prog_level = 7 is not on the scale: read as 0",)


@pytest.mark.parametrize("lost", [{}, {"levels": None}, {"levels": {}, "P_t": None, "v_t": None}])
def test_failed_judgement_of_a_published_run_stays_as_a_turn_that_moves_nothing(
    tmp_path: Path, lost: dict[str, object]
) -> None:
    case = run_case()
    points_of(case).append({"turn": 3, "P_t": [-2, -2, 0], "v_t": [0, 0, 0]} | lost)
    score = score_of(write(tmp_path / "a.jsonl", [case]))
    # Four points instead of three, one of them with dE > 0.
    assert score.indices["positive"].estimate == pytest.approx(100 / 4)
    assert score.num_failed_judgements == 1
    assert score.epm_q_judged_only == pytest.approx(RUN_SCORE, abs=1e-3)
    assert score.notes[0].endswith("as the published score does: script_001 turn 3")


def test_path_without_its_start_and_states_begins_at_p0_and_follows_the_moves(tmp_path: Path) -> None:
    case = run_case()
    case["trajectory"] = [
        {key: value for key, value in point.items() if key != "P_t"} for point in points_of(case)[1:]
    ]
    score = score_of(write(tmp_path / "a.jsonl", [case]))
    assert score.epm_q.estimate == pytest.approx(RUN_SCORE, abs=1e-3)


def test_copies_count_once_and_other_dialogues_of_a_case_are_averaged(tmp_path: Path) -> None:
    still = run_case()
    still["trajectory"] = points_of(still)[:2]
    still["termination_reason"] = "EPM v2.0 Success: Geometric Victory"
    score = score_of(write(tmp_path / "a.jsonl", [run_case(), run_case(), still]))
    alone = score_of(write(tmp_path / "b.jsonl", [still]))
    assert score.notes == ("script_001: line 2 repeats line 1: counted once",)
    assert (len(score.cases), score.num_dialogues, score.passed) == (1, 2, 1)
    assert score.epm_q.estimate == pytest.approx((RUN_SCORE + alone.epm_q.estimate) / 2, abs=1e-3)


def test_dialogue_that_cannot_be_scored_is_left_out_and_said(tmp_path: Path) -> None:
    empty = run_case("script_002", trajectory=[])
    near = run_case("script_003", P_0=[-1, 0, 0])
    points_of(near)[0]["P_t"] = [-1, 0, 0]
    score = score_of(write(tmp_path / "a.jsonl", [run_case(), empty, near]))
    assert (len(score.cases), score.num_failed_dialogues) == (1, 2)
    assert score.notes[0] == "script_002: left out: the dialogue failed"
    assert score.notes[1].startswith("script_003: left out: the initial state must be outside the zone")


def test_unstated_ending_is_replayed_and_said(tmp_path: Path) -> None:
    case = run_case()
    del case["termination_reason"]
    score = score_of(write(tmp_path / "a.jsonl", [case]))
    assert score.passed == 0
    assert score.notes == ("script_001: no termination_reason; by our rules (a = 0.1): does not end",)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"script_id": "x", "traj', "line 2: not valid JSON"),
        ("[1, 2]", "line 2: must be a JSON object, got list"),
        ('{"history": []}', "line 2: is in format emotion, but line 1 is in format run"),
        ('{"words": 3}', "line 2: is in no known format: run needs trajectory; own needs initial_state and"),
        ('{"trajectory": []}', "line 2: field 'P_0', or 'P_t' of the first point, must be three numbers"),
        ('{"trajectory": [3]}', "line 2: field 'trajectory': entry 0 must be an object, got 3."),
        (
            '{"trajectory": [{"turn": 1, "P_t": "near"}], "P_0": [-3, 0, 0]}',
            "field 'P_t' must be three numbers",
        ),
    ],
)
def test_line_that_cannot_be_read_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(f"{json.dumps(run_case())}\n{line}\n")
    with pytest.raises(RecordingError) as caught:
        rescore([path], seed=0)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert problem in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"nowhere.jsonl cannot be read"):
        rescore([tmp_path / "nowhere.jsonl"], seed=0)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(RecordingError, match=r"empty.jsonl contains no dialogue"):
        rescore([tmp_path / "empty.jsonl"], seed=0)


def test_model_is_the_records_own_name_else_the_stem(tmp_path: Path) -> None:
    nameless = run_case()
    del nameless["model"]
    paths = [
        write(tmp_path / "first.jsonl", [run_case(), run_case(model="helper-2")]),
        write(tmp_path / "second.jsonl", [nameless]),
        write(tmp_path / "third.jsonl", [run_case()]),
    ]
    names = [item.model for item in rescore(paths, seed=0)]
    assert names == ["helper-1 (first)", "helper-2", "second", "helper-1 (third)"]


def test_strata_come_from_the_table_beside_the_file(tmp_path: Path) -> None:
    cases = [
        {"script_id": "script_001", "category": "work", "difficulty": "hard", "dominant_axis": "P"},
        {"script_id": "script_009", "category": "home", "difficulty": "easy", "dominant_axis": "A"},
    ]
    (tmp_path / "case_metadata.json").write_text(json.dumps({"sampled_cases": cases}))
    (tmp_path / "runs").mkdir()
    score = score_of(write(tmp_path / "runs" / "a.jsonl", [run_case(), run_case("script_002")]))
    assert {name: stratum.cases for name, stratum in score.by_axis.items()} == {"C": 1, "P": 1}
    assert list(score.by_category) == ["work"]
    assert list(score.by_difficulty) == ["hard"]


def test_own_dialogue_is_scored_like_its_trajectory_and_failed_turns_are_left_out(tmp_path: Path) -> None:
    failed = Turn(0, "u", "r", Judgement.failed(Status.TIMED_OUT, "late"), (-5.0, 0.0, 0.0))
    moved = Judgement(progress=(2, 0, 0), regress=(0, 0, 0), delta=(3.0, 0.0, 0.0))
    hurt = Judgement(progress=(0, 0, 0), regress=(0, -1, 0), delta=(0.0, -2.0, 0.0))
    turns = (failed, Turn(1, "u", "r", moved, (-2.0, 0.0, 0.0)), Turn(2, "u", "r", hurt, (-2.0, -2.0, 0.0)))
    scenario = Scenario("s1", "d", "work", "C", "", "hi", (-5.0, 0.0, 0.0), (), "test")
    played = Trajectory(scenario, 0, 0, turns, Stop.SUCCESS)
    lost = replace(played, stop=Stop.FAILED, sample=1)
    score = score_of(write(tmp_path / "dialogues.jsonl", [transcript(played), transcript(lost)]))
    assert score.epm_q.estimate == pytest.approx(RUN_SCORE, abs=1e-3)
    assert (score.passed, score.num_failed_dialogues, score.num_failed_judgements) == (1, 1, 2)
    assert (list(score.by_axis), list(score.by_category)) == (["C"], ["work"])


def test_emotion_dialogues_are_scored_as_the_benchmark_does(tmp_path: Path) -> None:
    cases = [emotion_case(40, 70, 100), emotion_case(40, 20, 5, case="b"), emotion_case(40, 10, case="c")]
    (item,) = rescore([write(tmp_path / "m.jsonl", cases)], seed=0)
    score = item.score
    assert isinstance(score, EmotionScore) and item.model == "m"
    assert score.final_emotion.estimate == pytest.approx((100 + 5 + 10) / 3)
    assert (score.successes, score.failures) == (1, 1)  # 10 is no failure
    assert score.change_per_turn.estimate == pytest.approx((30 - 17.5 - 30) / 3)


def test_unrated_message_is_passed_over_and_named(tmp_path: Path) -> None:
    case = emotion_case(40, 50)
    history = case["history"]
    assert isinstance(history, list)
    history[2]["emotion-point"] = None
    (item,) = rescore([write(tmp_path / "m.jsonl", [case])], seed=0)
    assert item.score.notes[0] == "a, message 2: emotion-point None is not in 0..100: ignored"


def test_auc_of_the_previous_emotion_by_hand() -> None:
    # Turns: 40 rises, 60 rises, 50 falls, 40 falls. Pairs (rising, other): 40-50 lost, 40-40 half, 60-50 and
    # 60-40 won: 2.5 of 4.
    assert rise_auc_of_previous([np.array([40.0, 60, 70]), np.array([50.0, 40, 30])]) == 0.625


def test_record_and_tables_have_every_model(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "runs.jsonl", [run_case()]),
        write(tmp_path / "feelings.jsonl", [emotion_case(40, 50)]),
    ]
    results = rescore(paths, seed=0, check=True)
    record = rescore_record(results)
    assert list(record) == ["helper-1", "feelings"]
    assert [str(table.title).partition(" by")[0] for table in rescore_tables(results)] == [
        "Recorded dialogues", "Indices", "Strata", "Recorded emotion", "Endings",
    ]  # fmt: skip


def test_tables_show_every_number_and_heading_at_80_columns(tmp_path: Path) -> None:
    cases = [
        run_case(
            f"script_{number:03}", model=f"a-model-with-a-long-name-{number % 2}", category="relationships"
        )
        for number in range(4)
    ]
    scores = rescore([write(tmp_path / "runs.jsonl", cases)], seed=0, check=True)
    console = Console(width=80)
    with console.capture() as capture:
        for table in rescore_tables(scores):
            console.print(table)
    printed = capture.get()
    assert "…" not in printed
    assert all(len(line) <= 80 for line in printed.splitlines())
    expected = {"EPM-Q", "passed", "alignment", "58.8", "[58.8,", "58.8]", "0/2", "0.50", "Align", "Pen"}
    assert expected <= set(printed.split())


@pytest.fixture(scope="module")
def published(benchmark_data: Path) -> tuple[Rescored, ...]:
    paths = sorted((benchmark_data / "empa" / "recorded_runs").glob("*.jsonl"))
    return rescore(paths, seed=0, check=True)


def test_recorded_runs_give_the_published_table(published: tuple[Rescored, ...]) -> None:
    assert {item.model for item in published} == set(PUBLISHED)
    for item in published:
        printed, passed = PUBLISHED[item.model]
        assert isinstance(item.score, ModelScore)
        assert item.score.epm_q.estimate == pytest.approx(printed, abs=0.1)
        assert (item.score.passed, len(item.score.cases)) == (passed, 30)
        assert set(item.score.indices) == set(INDEX_NAMES)
        assert [stratum.cases for stratum in item.score.by_axis.values()] == [10, 10, 10]
        assert [stratum.cases for stratum in item.score.by_category.values()] == [5] * 6
        assert sum(stratum.cases for stratum in item.score.by_difficulty.values()) == 30


def test_stray_text_level_of_the_recorded_runs_is_said(published: tuple[Rescored, ...]) -> None:
    notes = {item.model: item.score.notes for item in published}
    assert "script_063, turn 5: unknown level ability_level = 'L1': ignored" in notes["seed-1.6"]


def test_recorded_endings_come_out_of_our_rules(published: tuple[Rescored, ...]) -> None:
    checks = [item.endings for item in published if item.endings is not None]
    differences = [difference for check in checks for difference in check.differences]
    assert sum(check.checked for check in checks) == 120
    assert differences == []


def test_recorded_sage_dialogues_give_the_leaderboard(benchmark_data: Path) -> None:
    paths = sorted((benchmark_data / "sage" / "dialogues").glob("*.jsonl"))
    scores = {item.model: item.score for item in rescore(paths, seed=0)}
    # Score, success and failure as the benchmark's leaderboard prints them.
    for model, printed in {"gpt-4.1": (68.2, 35, 13), "llama3.3-70b": (33.3, 7, 47)}.items():
        score = scores[model]
        assert isinstance(score, EmotionScore)
        assert score.final_emotion.estimate == pytest.approx(printed[0], abs=0.06)
        assert (score.successes, score.failures) == printed[1:]
        assert 0.79 < score.rise_auc < 0.81
