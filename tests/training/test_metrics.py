"""The metrics of a step: every name has a definition and a unit, and counts are counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mica_ray.evaluation.evaluate import evaluation_metrics, summarize
from mica_ray.training.metrics import METRICS, step_metrics
from mica_ray.types import (
    Judgement,
    RoleAnswer,
    Scenario,
    Status,
    Stop,
    TokenBatch,
    Trajectory,
    Turn,
    TurnRewards,
    UpdateReport,
)


def dialogue(group: int, director_failures: int) -> Trajectory:
    scenario = Scenario(
        id=str(group), domain="test", category="work", dominant_axis="A", persona="Somebody.",
        opening="Hello.", initial_state=(-3.0, -6.0, -3.0), stages=(), split="train",
    )  # fmt: skip
    ends = (RoleAnswer("director", Status.OK, is_early_end=True), RoleAnswer("actor", Status.OK))
    turn = Turn(0, "Hello.", "Hi.", Judgement.failed(Status.INVALID, "no"), (-3.0, -6.0, -3.0), answers=ends)
    return Trajectory(scenario, group, 0, (turn,), Stop.LIMIT, director_failures=director_failures)


def empty_batch() -> TokenBatch:
    nothing, mask = np.zeros((0, 0)), np.zeros((0, 0), dtype=bool)
    ids, rows = np.zeros((0, 0), dtype=np.int64), np.zeros(0, dtype=np.int64)
    return TokenBatch(0, ids, rows, mask, nothing, nothing, ids, rows, loss_tokens=0, loss_turns=0)


def test_failures_of_the_director_are_summed_over_the_dialogues() -> None:
    turns = TurnRewards(np.zeros((2, 1)), np.zeros((2, 1), dtype=bool), np.arange(2))
    metrics = step_metrics(
        [dialogue(0, 2), dialogue(1, 1)],
        turns,
        advantages=np.zeros((2, 1)),
        batch=empty_batch(),
        report=UpdateReport(version=1, metrics={}),
    )
    assert (metrics["director_failures"], metrics["director_early_ends"]) == (3.0, 2.0)
    assert set(metrics) <= set(METRICS)


def test_evidence_that_judges_made_up_is_summed_over_the_turns() -> None:
    judged = [Judgement((1, 0, 0), (0, 0, 0), (1.0, 0.0, 0.0), unfound_evidence=count) for count in (2, 0, 3)]
    turns = tuple(Turn(i, "Hello.", "Hi.", each, (0.0, 0.0, 0.0)) for i, each in enumerate(judged))
    metrics = step_metrics(
        [replace(dialogue(0, 0), turns=turns)],
        TurnRewards(np.zeros((1, 3)), np.ones((1, 3), dtype=bool), np.zeros(1, dtype=np.int64)),
        advantages=np.zeros((1, 3)),
        batch=empty_batch(),
        report=UpdateReport(version=1, metrics={}),
    )
    assert metrics["unfound_evidence"] == 5.0


def test_silent_replies_are_counted_apart_from_failed_judgements() -> None:
    # Three replies: one scored, one whose judgement failed, one without words.
    scored = Judgement((1, 0, 0), (0, 0, 0), (1.0, 0.0, 0.0))
    failed = Judgement.failed(Status.INVALID, "no")
    played = (
        Turn(0, "a", "b", scored, (-2.0, -6.0, -3.0)),
        Turn(1, "a", "b", failed, (-2.0, -6.0, -3.0)),
        Turn(2, "a", "", failed, (-2.0, -6.0, -3.0), is_silent=True),
    )
    metrics = step_metrics(
        [replace(dialogue(0, 0), turns=played)],
        TurnRewards(np.zeros((1, 3)), np.array([[True, False, False]]), np.arange(1)),
        advantages=np.zeros((1, 3)),
        batch=empty_batch(),
        report=UpdateReport(version=1, metrics={}),
    )
    assert metrics["silent_reply_fraction"] == pytest.approx(1 / 3)
    assert (metrics["failed_judgement_fraction"], metrics["judge_invalid"], metrics["judge_ok"]) == (
        0.5,
        1,
        1,
    )


def test_numbers_of_an_evaluation_are_in_the_table() -> None:
    assert set(evaluation_metrics(summarize([], seed=0))) <= set(METRICS)


def test_every_metric_has_a_formula_and_a_unit() -> None:
    assert [name for name, text in METRICS.items() if not all(part.strip() for part in text.split(";"))] == []
    assert [name for name, text in METRICS.items() if text.count(";") != 1] == []
