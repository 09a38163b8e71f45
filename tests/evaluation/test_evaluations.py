"""Evaluations of played dialogues: which ones count, which are left out, which are compared."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mica_ray.evaluation.evaluate import EvaluationConfig, compare, summarize
from mica_ray.evaluation.tables import (
    comparison_record,
    comparison_table,
    evaluation_record,
    evaluations_table,
)
from mica_ray.files import write_json
from mica_ray.types import Judgement, Scenario, State, Status, Stop, Trajectory, Turn


def make_dialogue(name: str, *moves: float, stop: Stop = Stop.LIMIT, failed_turns: int = 0) -> Trajectory:
    """A dialogue that starts at C = -5 (zone distance 4) and moves along C; failed judgements come last."""
    scenario = Scenario(
        id=name, domain="d", category="c", dominant_axis="C", persona="", opening="hi",
        initial_state=(-5.0, 0.0, 0.0), stages=(), split="test",
    )  # fmt: skip
    turns: list[Turn] = []
    state: State = scenario.initial_state
    for index, move in enumerate(moves):
        state = (state[0] + move, 0.0, 0.0)
        level = (int(move > 0), 0, 0), (-int(move < 0), 0, 0)
        judgement = Judgement(progress=level[0], regress=level[1], delta=(move, 0.0, 0.0))
        turns.append(Turn(index=index, user="u", reply="r", judgement=judgement, state_after=state))
    for index in range(len(moves), len(moves) + failed_turns):
        failed = Judgement.failed(Status.INVALID, "no JSON")
        turns.append(Turn(index=index, user="u", reply="r", judgement=failed, state_after=state))
    return Trajectory(scenario=scenario, group=0, sample=0, turns=tuple(turns), stop=stop)


def test_mean_idr_is_the_distance_closed_per_judged_turn() -> None:
    # Scenario a closes 4 - 1 = 3 points in two judged turns, b opens 2 in one: (1.5 - 2) / 2 = -0.25.
    evaluation = summarize([make_dialogue("a", 1.0, 2.0, failed_turns=1), make_dialogue("b", -2.0)], seed=0)
    assert [row.idr for row in evaluation.rows] == [1.5, -2.0]
    assert evaluation.idr.estimate == -0.25
    assert evaluation.num_failed_judgements == 1


def test_evaluation_reports_the_alignment_with_both_directions() -> None:
    # From (-5, 0, 0) along C: cosine 1 forwards, -1 backwards, in both directions; a turns once of two moves.
    evaluation = summarize([make_dialogue("a", 2.0, -1.0), make_dialogue("b", 1.0)], seed=0)
    record = evaluation_record(evaluation)
    assert (record["alignment"], record["alignment_dynamic"]) == (0.5, 0.5)  # (0 + 1) / 2
    # Past the origin the way back is forwards for the dynamic direction only: +6 ends at 1, then -1.
    past = summarize([make_dialogue("c", 6.0, -1.0)], seed=0)
    assert (past.alignment, past.alignment_dynamic) == (0.0, 1.0)
    console = Console(width=200, record=True)
    with console.capture() as capture:
        console.print(evaluations_table("t", {"c": past}))
    assert "alignment 0.00 with the direction from P_0, 1.00 with that from each state" in " ".join(
        capture.get().split()
    )


def test_failed_dialogue_is_counted_and_left_out() -> None:
    evaluation = summarize(
        [make_dialogue("a", 3.0, stop=Stop.SUCCESS), make_dialogue("b", 3.0, stop=Stop.FAILED)], seed=0
    )
    assert evaluation.pass_fraction.estimate == 1.0  # one of one, not one of two
    assert evaluation.num_failed_dialogues == 1
    assert math.isnan(evaluation.rows[1].epm_q)
    assert evaluation.idr.estimate == 3.0


def test_samples_of_a_scenario_make_one_row() -> None:
    evaluation = summarize([make_dialogue("a", 1.0), make_dialogue("a", 3.0, stop=Stop.SUCCESS)], seed=0)
    assert len(evaluation.rows) == 1
    assert (evaluation.rows[0].samples, evaluation.rows[0].passes, evaluation.rows[0].idr) == (2, 1, 2.0)


def test_comparison_pairs_scenarios_whatever_their_order() -> None:
    before = summarize([make_dialogue("a", -1.0), make_dialogue("b", 1.0)], seed=0)
    after = summarize([make_dialogue("b", 3.0), make_dialogue("a", 1.0)], seed=0)
    comparison = compare(before, after, seed=0)
    # Both scenarios gain 2 points per turn, so the interval has no width.
    assert (comparison.idr.estimate, comparison.idr.low, comparison.idr.high) == (2.0, 2.0, 2.0)


def test_scenario_that_one_side_could_not_score_is_not_compared() -> None:
    before = summarize([make_dialogue("a", 1.0), make_dialogue("b", stop=Stop.FAILED)], seed=0)
    after = summarize([make_dialogue("a", 2.0), make_dialogue("b", 4.0)], seed=0)
    assert compare(before, after, seed=0).idr.estimate == 1.0


def test_evaluations_of_different_scenarios_are_not_compared() -> None:
    with pytest.raises(ValueError, match="only one of them has a, b"):
        compare(
            summarize([make_dialogue("a", 1.0)], seed=0), summarize([make_dialogue("b", 1.0)], seed=0), seed=0
        )


def test_written_json_has_every_number_and_null_for_nan(tmp_path: Path) -> None:
    before = summarize([make_dialogue("a", 1.0), make_dialogue("b", stop=Stop.FAILED)], seed=0)
    comparison = compare(before, before, seed=0)
    record = {"before": evaluation_record(before), "difference": comparison_record(comparison)}
    write_json(tmp_path / "deep" / "table.json", record)
    read = json.loads((tmp_path / "deep" / "table.json").read_text())
    assert read["before"]["scenarios"][1]["epm_q"] is None
    assert read["before"]["idr"]["estimate"] == 1.0
    assert read["difference"]["idr"]["estimate"] == 0.0
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["table.json"]


def test_table_has_a_row_per_measure() -> None:
    evaluation = summarize([make_dialogue("a", 1.0)], seed=0)
    table = comparison_table("t", evaluation, evaluation, compare(evaluation, evaluation, seed=0))
    assert (table.row_count, len(table.columns)) == (3, 4)


def test_name_that_looks_like_markup_is_shown_as_it_is() -> None:
    evaluation = summarize([make_dialogue("a", 1.0)], seed=0)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(evaluations_table("t", {"[bold]a[/bold]": evaluation}))
    assert "[bold]a[/bold]" in capture.get()


def test_evaluation_that_cannot_be_played_is_refused() -> None:
    with pytest.raises(ValueError, match="samples must be >= 1, got 0"):
        replace(EvaluationConfig(), samples=0)
    with pytest.raises(ValueError, match=r"temperature must be >= 0, got -0\.1"):
        replace(EvaluationConfig(), temperature=-0.1)
