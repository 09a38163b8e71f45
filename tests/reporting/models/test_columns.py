"""Scores and differences of the table, from a few items that can be averaged by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from mica_ray.reporting.models.columns import COLUMNS, Cell, cell, difference
from mica_ray.reporting.models.results import ModelResults
from mica_ray.reporting.models.sources import Source, read_models
from mica_ray.statistics import wilson
from tests.evaluation.recorded_files import RUN_SCORE
from tests.reporting.models.stored_results import answered, recorded

BY_KEY = {column.key: column for column in COLUMNS}


def models_of(*paths: Path) -> tuple[ModelResults, ...]:
    return read_models([Source(path) for path in paths])


def scored(model: ModelResults, key: str) -> Cell:
    found = cell(model, BY_KEY[key])
    assert found is not None
    return found


def test_overall_is_the_mean_of_both_parts_not_of_their_questions(tmp_path: Path) -> None:
    # EA: questions (1 + 0) / 2 and 1, hence 75 %. EU: 0 %. Overall: 37.5 %; over all questions it is 50.
    scores = {"EA-en-1": [1.0, 0.0], "EA-zh-1": [1.0], "EU-en-1": [0.0]}
    (model,) = models_of(answered(tmp_path / "a", "emobench", "m", scores))
    assert [scored(model, f"emobench_{part}").value.estimate for part in ("ea", "eu", "overall")] == [
        75.0, 0.0, 37.5
    ]  # fmt: skip
    assert scored(model, "emobench_overall").num_items == 3


def test_unreadable_answers_are_counted_and_not_scored_0(tmp_path: Path) -> None:
    (model,) = models_of(answered(tmp_path / "a", "eqbench2", "m", {"1": [80.0, None], "2": [None]}))
    assert scored(model, "eqbench2") == Cell(scored(model, "eqbench2").value, num_items=1)
    assert scored(model, "eqbench2").value.estimate == 80.0
    (result,) = model.results
    assert (result.num_answers, result.num_unreadable) == (3, 2)


def test_part_without_a_score_has_no_cell(tmp_path: Path) -> None:
    (model,) = models_of(answered(tmp_path / "a", "emobench", "m", {"EA-en-1": [1.0], "EU-en-1": [None]}))
    found = {key for key, column in BY_KEY.items() if cell(model, column) is not None}
    assert found == {"emobench_ea"}


def test_difference_uses_only_items_that_both_have(tmp_path: Path) -> None:
    ours = answered(tmp_path / "a", "eqbench2", "ours", {"1": [90.0], "2": [70.0], "3": [50.0]})
    base = answered(tmp_path / "b", "eqbench2", "base", {"2": [60.0], "3": [20.0], "4": [99.0]})
    one, two = models_of(ours, base)
    found = difference(one, two, BY_KEY["eqbench2"])
    # 70 - 60 = 10 and 50 - 20 = 30; resampled means of two pairs are 10, 20 or 30.
    assert found is not None and found.num_items == 2
    assert (found.value.estimate, found.value.low, found.value.high) == (20.0, 10.0, 30.0)


def test_difference_without_common_items_is_absent(tmp_path: Path) -> None:
    ours = answered(tmp_path / "a", "emobench", "ours", {"EA-en-1": [1.0], "EU-en-1": [1.0]})
    base = answered(tmp_path / "b", "emobench", "base", {"EA-en-1": [0.0], "EU-en-2": [1.0]})
    one, two = models_of(ours, base)
    gaps = [difference(one, two, BY_KEY[f"emobench_{part}"]) for part in ("ea", "eu", "overall")]
    assert gaps[0] is not None and gaps[0].value.estimate == 100.0
    assert gaps[1:] == [None, None]


def test_passed_counts_cases_with_a_wilson_interval(tmp_path: Path) -> None:
    (model,) = models_of(recorded(tmp_path / "a.jsonl", {"script_003": True, "script_010": False}))
    found, share = scored(model, "empa_passed"), wilson(1, 2)
    assert found.value.estimate == 1.0 and found.num_items == 2
    assert (found.value.low, found.value.high) == pytest.approx((2 * share.low, 2 * share.high))
    assert scored(model, "empa_score").value.estimate == pytest.approx(RUN_SCORE, abs=1e-4)


def test_runs_of_one_model_are_averaged_by_case(tmp_path: Path) -> None:
    # script_003 passes in both runs, script_010 in one: 1 + 1/2 of 2 cases, as the paper's 8.3 of 30.
    one = recorded(tmp_path / "a.jsonl", {"script_003": True, "script_010": True})
    two = recorded(tmp_path / "b.jsonl", {"script_003": True, "script_010": False})
    (model,) = models_of(one, two)
    assert scored(model, "empa_passed").value.estimate == 1.5
    base = recorded(tmp_path / "c.jsonl", {"script_003": False, "script_010": False}, model="base")
    (other,) = models_of(base)
    gap = difference(model, other, BY_KEY["empa_passed"])
    assert gap is not None and gap.value.estimate == 1.5  # 1 - 0 and 1/2 - 0, in cases
