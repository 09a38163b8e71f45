"""Which cards a screening keeps, and which dialogues it plays to find out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mica_ray.domains.empa.cards import read_cards
from mica_ray.domains.loader import load_scenarios
from mica_ray.domains.tutoring import TUTORING
from mica_ray.evaluation.screening import (
    Screening,
    ScreenRule,
    Verdict,
    count_by_stratum,
    scenario_lines,
)
from mica_ray.recordings.case_log import CaseLog
from mica_ray.types import Judgement, Status, Stop, Trajectory, Turn
from tests.domains.empa.card_folder import name, write_cards

ONE, TWO = (replace(TUTORING.scenarios[0], id=each) for each in ("one", "two"))
SCORED = Judgement(progress=(0, 0, 0), regress=(0, 0, 0), delta=(0.0, 0.0, 0.0))
LOST = Judgement.failed(Status.TIMED_OUT, "no answer")


def dialogue(stop: Stop, *judgements: Judgement, silent: bool = False, sample: int = 0) -> Trajectory:
    turns = tuple(
        Turn(index, "I am lost.", "I see.", judgement, state_after=ONE.initial_state)
        for index, judgement in enumerate(judgements)
    )
    if silent:
        turns += (Turn(len(turns), "Hm.", "", LOST, state_after=ONE.initial_state, is_silent=True),)
    return Trajectory(ONE, group=0, sample=sample, turns=turns, stop=stop)


@pytest.mark.parametrize(
    ("successes", "verdict"),
    [
        ([], "undecided"),
        ([True], "undecided"),
        ([True, False], "undecided"),  # One of two, and one dialogue is left.
        ([True, True], "kept"),
        ([False, False], "dropped"),  # The third cannot bring two successes.
        ([True, False, False], "dropped"),
        ([True, False, True], "kept"),
    ],
)
def test_card_is_decided_as_soon_as_the_rest_cannot_change_it(
    successes: list[bool], verdict: Verdict
) -> None:
    assert ScreenRule(samples=3, passes=2).verdict(successes) == verdict


@pytest.mark.parametrize(
    ("samples", "passes", "unjudged", "problem"),
    [
        (0, 1, 0.0, "samples must be >= 1"),
        (1, 0, 0.0, "passes must be >= 1"),
        (2, 3, 0.0, r"passes must be <= samples \(2\), got 3"),
        (1, 1, 1.1, "unjudged_fraction"),
        (1, 1, -0.1, "unjudged_fraction"),
    ],
)
def test_rule_that_decides_nothing_is_refused(
    samples: int, passes: int, unjudged: float, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        ScreenRule(samples, passes, unjudged)


def test_dialogue_with_a_failed_judgement_is_no_evidence_against_its_card() -> None:
    lost = ScreenRule().evidence(dialogue(Stop.STALL, SCORED, LOST))
    assert lost.stop is Stop.FAILED
    assert lost.error == "1 of 2 turns have no judgement. The last failed: no answer"
    # The same dialogue with every judgement counts.
    assert ScreenRule().evidence(dialogue(Stop.STALL, SCORED, SCORED)).stop is Stop.STALL


@pytest.mark.parametrize(("fraction", "stop"), [(0.24, Stop.FAILED), (0.25, Stop.LIMIT), (0.26, Stop.LIMIT)])
def test_share_of_unjudged_turns_is_allowed_up_to_the_limit(fraction: float, stop: Stop) -> None:
    one_of_four = dialogue(Stop.LIMIT, SCORED, LOST, SCORED, SCORED)
    assert ScreenRule(unjudged_fraction=fraction).evidence(one_of_four).stop is stop


def test_success_and_silence_need_no_further_judgement() -> None:
    assert ScreenRule().evidence(dialogue(Stop.SUCCESS, SCORED, LOST)).stop is Stop.SUCCESS
    assert ScreenRule().evidence(dialogue(Stop.LIMIT, SCORED, silent=True)).stop is Stop.LIMIT


def played(screening: Screening) -> list[tuple[str, int]]:
    return [(scenario.id, sample) for scenario, sample in screening.next_cases()]


def test_only_dialogues_that_may_decide_are_played(tmp_path: Path) -> None:
    log = CaseLog(tmp_path, model="strong", settings={})
    screening = Screening([ONE, TWO], ScreenRule(samples=3, passes=2), log)
    # Two successes are needed, so two dialogues are needed in any case.
    assert played(screening) == [("one", 0), ("one", 1), ("two", 0), ("two", 1)]
    for sample, stop in enumerate((Stop.SUCCESS, Stop.COLLAPSE)):
        log.record(dialogue(stop, SCORED, sample=sample))
        log.record(replace(dialogue(Stop.SUCCESS, SCORED, sample=sample), scenario=TWO))
    assert played(screening) == [("one", 2)]
    log.record(dialogue(Stop.LIMIT, SCORED, sample=2))
    assert played(screening) == []
    assert screening.verdicts == {"one": "dropped", "two": "kept"}
    assert screening.counts("one") == (1, 3)


def test_failed_dialogue_leaves_the_card_undecided_and_is_played_by_the_next_call(tmp_path: Path) -> None:
    log = CaseLog(tmp_path, model="strong", settings={})
    screening = Screening([ONE], ScreenRule(), log)
    assert played(screening) == [("one", 0)]
    log.record(dialogue(Stop.FAILED))
    assert (played(screening), screening.verdict("one")) == ([], "undecided")
    again = Screening([ONE], ScreenRule(), CaseLog(tmp_path, model="strong", settings={}))
    assert played(again) == [("one", 0)]


def test_fewer_samples_than_before_use_the_first_ones(tmp_path: Path) -> None:
    log = CaseLog(tmp_path, model="strong", settings={})
    log.record(dialogue(Stop.LIMIT, SCORED, sample=0))
    log.record(dialogue(Stop.SUCCESS, SCORED, sample=1))
    assert Screening([ONE], ScreenRule(samples=1), log).verdict("one") == "dropped"
    assert Screening([ONE], ScreenRule(samples=2), log).verdict("one") == "kept"


def test_verdicts_are_counted_by_stratum(tmp_path: Path) -> None:
    cards = read_cards(write_cards(tmp_path, [2, 3, 4])).cards
    table = count_by_stratum(cards, {name(2): "kept", name(3): "dropped"})  # Card 4 was not screened.
    counts = {"kept": 1, "dropped": 1, "undecided": 0}
    assert table == {
        "category": {"unknown": counts},
        "dominant axis": {"A": counts},
        "empathy threshold": {"high": counts},
    }


def test_written_scenarios_are_read_as_they_were(tmp_path: Path) -> None:
    cards = read_cards(write_cards(tmp_path / "d", [2, 3])).scenarios("empa")
    (tmp_path / "kept.jsonl").write_bytes(scenario_lines(cards))
    assert load_scenarios(tmp_path / "kept.jsonl", "empa") == cards
