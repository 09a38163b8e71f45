"""Where results come from: names, folders and files, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mica_ray.config import ConfigError, RunConfig
from mica_ray.reporting.models.comparability import answer_reasons
from mica_ray.reporting.models.results import BenchmarkResult
from mica_ray.reporting.models.sources import Source, read_models, read_source_name, shown_name
from tests.evaluation.recorded_files import emotion_case, run_case, write
from tests.reporting.models.stored_results import answered, recorded
from tests.runs.written_run import dialogue, turn, write_lines, write_run


def test_name_before_an_existing_path_names_the_model(tmp_path: Path) -> None:
    folder = answered(tmp_path / "a=b", "eqbench2", "m", {"1": [1.0]})
    assert read_source_name(str(folder)) == Source(folder)
    assert read_source_name(f"x={folder}") == Source(folder, "x")
    for argument, problem in (("absent", "no such folder"), (f" ={folder}", "is empty")):
        with pytest.raises(ConfigError, match=problem):
            read_source_name(argument)


def test_results_of_one_model_share_a_row(tmp_path: Path) -> None:
    one = answered(tmp_path / "a", "eqbench2", "m", {"1": [1.0]})
    two = answered(tmp_path / "b", "emobench", "m", {"EA-en-1": [1.0]})
    three = answered(tmp_path / "c", "eqbench2", "other", {"1": [1.0]})
    models = read_models([Source(one), Source(two), Source(three, "m2")])
    assert [(model.name, len(model.results)) for model in models] == [("m", 2), ("m2", 1)]


def test_second_result_must_share_items(tmp_path: Path) -> None:
    one = answered(tmp_path / "a", "eqbench2", "m", {"1": [1.0]})
    two = answered(tmp_path / "b", "eqbench2", "m", {"2": [1.0]})
    with pytest.raises(ConfigError, match="without a common item"):
        read_models([Source(one), Source(two)])
    with pytest.raises(ConfigError, match="listed twice"):
        read_models([Source(one), Source(tmp_path / "b" / ".." / "a", "n")])


def test_run_folder_has_its_last_evaluation_and_its_scores_by_step(tmp_path: Path) -> None:
    finished = write_run(tmp_path / "one", RunConfig(allow_test_cards=True))
    write_lines(finished / "evaluation_after.jsonl", [dialogue(0, 0, 0, [turn(0, 1.0)], stop="success")])
    unfinished = write_run(tmp_path / "two", is_finished=False)
    write_lines(unfinished / "evaluation_after.jsonl", [dialogue(0, 0, 0, [turn(0, 1.0)])])
    one, two = read_models([Source(finished), Source(unfinished)])
    assert (one.name, one.results[0].passes, one.curves) == ("one", 1, ({0: 20.0},))
    assert (two.name, two.results, two.curves) == ("two", (), ({0: 20.0},))
    reasons = " ".join(one.results[0].reasons)
    assert "contaminated" in reasons and "30 of the 30 official cases are missing" in reasons
    assert "judge scripted, not gemini-2.5-pro" in reasons


def test_cases_that_failed_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "empa"
    folder.mkdir()
    recorded(folder / "dialogues.jsonl", {"script_003": True}, model="m")
    write(folder / "failed.jsonl", [{"scenario": "script_010"}, {"scenario": "script_011"}])
    (model,) = read_models([Source(folder)])
    assert (model.name, model.results[0].num_answers, model.results[0].num_failed) == ("m", 3, 2)


def test_judgements_of_conversations_are_those_of_one_judge(tmp_path: Path) -> None:
    folder = answered(tmp_path / "eq3", "eqbench3", "m", {"1/0": [None]})  # The one reply has a problem.
    with pytest.raises(ConfigError, match="found none"):
        read_models([Source(folder)])
    for judge in ("claude-3.7-sonnet", "other"):
        judged = answered(folder / f"judge-{judge}", "eqbench3", "", {"2": [70.0], "3": [None]})
        (judged / "settings.json").write_text(json.dumps({"benchmark": "eqbench3", "judge": judge}))
        (model,) = read_models([Source(judged)])
        (result,) = model.results
        assert (model.name, result.scores) == ("m", {"score": {"2": 70.0}})
        assert (result.num_answers, result.num_unreadable, result.num_failed) == (3, 1, 1)
        assert any("not by Claude" in reason for reason in result.reasons) == (judge == "other")
    with pytest.raises(ConfigError, match=r"found judge-claude-3\.7-sonnet, judge-other"):
        read_models([Source(folder)])


def test_other_files_are_refused_with_a_remedy(tmp_path: Path) -> None:
    sage = write(tmp_path / "sage.jsonl", [emotion_case(30, 40)])
    both = write(tmp_path / "both.jsonl", [run_case(), run_case(model="helper-2")])
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = answered(tmp_path / "broken", "eqbench2", "m", {})
    write(broken / "answers.jsonl", [{"question": "1", "sample": 0, "scores": {"score": "x"}}])
    for source, problem in (
        (Source(sage), "rescore"),
        (Source(both, "name"), "Leave out the name"),
        (Source(empty), "holds no results"),
        (Source(broken), "scores must be numbers"),
    ):
        with pytest.raises(ConfigError, match=problem):
            read_models([source])
    assert [model.name for model in read_models([Source(both)])] == ["helper-1", "helper-2"]


def test_names_are_one_printable_line(tmp_path: Path) -> None:
    assert shown_name(" a\n\x1b[31mb\u202e ") == "a [31mb"
    folder = answered(tmp_path / "stored", "eqbench2", "\n", {"1": [1.0]})
    assert read_models([Source(folder)])[0].name == "stored"


def test_reasons_name_missing_questions() -> None:
    for number, count in ((170, 1), (171, 0), (172, 0)):
        scores = {"score": {str(item): 1.0 for item in range(number)}}
        assert len(answer_reasons(BenchmarkResult("eqbench2", Path("a"), scores, number, 0))) == count
