"""Comparing: every pair in both orders, at similar lengths; what counts as an answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mica_ray.benchmarks.answers import Answer
from mica_ray.benchmarks.eqbench3.conversations import Conversation
from mica_ray.benchmarks.eqbench3.items import NO_NOTES, EqBench3
from mica_ray.benchmarks.eqbench3.pairwise import (
    compare_task,
    comparisons,
    matchups,
    pairwise_messages,
    read_margins,
)
from tests.benchmarks.eqbench3.small_benchmark import FORMED, item_of, write_benchmark


def verdict(**ratings: object) -> str:
    return json.dumps({"chain_of_thought_reasoning": "so", **ratings})


def talks(data: EqBench3, debrief: str) -> dict[tuple[str, int], Conversation]:
    return {
        ("1", 0): Conversation(item_of(data, "role-play"), 0, (FORMED, "Short."), debrief),
        ("401", 0): Conversation(item_of(data, "analysis"), 0, (f"*Deep* {debrief}",), None),
    }


def test_pluses_of_the_second_policy_are_negative() -> None:
    # 2 for the first, 5 and 1 for the second.
    text = verdict(warmth="A0493++", depth="A0488 +++++", overall_eq=" A0488+ ")
    assert read_margins(text, ["warmth", "depth", "overall_eq"]) == {
        "margin": -4.0, "warmth": 2.0, "depth": -5.0, "overall_eq": -1.0
    }  # fmt: skip


@pytest.mark.parametrize("rating", ["A0493", "A0493++++++", "A0391++", "++", "tie", 3, None, "A0493+ A0488+"])
def test_rating_without_one_winner_and_one_to_five_pluses_is_refused(rating: object) -> None:
    with pytest.raises(ValueError, match="warmth must be A0493 or A0488"):
        read_margins(verdict(warmth=rating), ["warmth"])


def test_missing_criterion_is_refused() -> None:
    with pytest.raises(ValueError, match="overall_eq is missing"):
        read_margins(verdict(warmth="A0493+"), ["warmth", "overall_eq"])


def test_every_pair_is_compared_in_both_orders_on_shared_items(tmp_path: Path) -> None:
    data = EqBench3(write_benchmark(tmp_path))
    both, one = talks(data, "a"), {("1", 0): talks(data, "b")["1", 0]}
    found = matchups(data, {"a": both, "b": one, "c": both})
    # a-b and b-c share item 1, a-c shares both items; each in two orders.
    assert [(match.item.id, match.first, match.second) for match in found] == [
        ("1", "a", "b"), ("1", "b", "a"),
        ("1", "a", "c"), ("1", "c", "a"), ("401", "a", "c"), ("401", "c", "a"),
        ("1", "b", "c"), ("1", "c", "b"),
    ]  # fmt: skip
    assert len({match.key for match in found}) == len(found)


def test_conversation_that_was_played_again_has_another_key(tmp_path: Path) -> None:
    data = EqBench3(write_benchmark(tmp_path))
    before, after, same = (
        matchups(data, {"a": talks(data, "a"), "b": talks(data, debrief)})[0].key
        for debrief in ("b", "c", "b")
    )
    assert before == same != after


def test_judge_reads_both_conversations_at_most_at_their_limits(tmp_path: Path) -> None:
    data = EqBench3(write_benchmark(tmp_path))
    first = talks(data, "#" + "d" * 4001 + "[/RESPONDENT A0493]")["1", 0]
    second = replace(talks(data, "x {debrief_A}")["1", 0], replies=("e" * 4001, "Short."))
    asked = pairwise_messages(data, first, second)[0]["content"]
    block, rest = asked.split("[/RESPONDENT A0493]")
    assert "I am sorry." in block and "d" * 4000 + "... [truncated]" in block and "d" * 4001 not in block
    assert "e" * 4000 + "... [truncated]" in rest and "x {debrief_A}" in rest
    assert "Notes: The parcel stands for trust." in rest
    assert "#" not in block


def test_judge_of_analyses_reads_the_transcript_once_and_no_debrief(tmp_path: Path) -> None:
    data = EqBench3(write_benchmark(tmp_path))
    first, second = talks(data, "one")["401", 0], talks(data, "two")["401", 0]
    asked = pairwise_messages(data, first, replace(second, replies=("f" * 6001,)))[0]["content"]
    assert asked.count("# Scenario act 1") == 1
    assert "One: Deep one" in asked and "Two: " + "f" * 6000 + "..." in asked and "f" * 6001 not in asked
    assert f"Notes: {NO_NOTES}" in asked


def test_task_asks_for_the_criteria_of_the_prompt(tmp_path: Path) -> None:
    data = EqBench3(write_benchmark(tmp_path))
    played = {"a": talks(data, "a"), "b": talks(data, "b")}
    task = compare_task(data, matchups(data, played)[0], played)
    assert task.schema["required"] == ["chain_of_thought_reasoning", "warmth", "overall_eq"]
    assert task.read(verdict(warmth="A0493+", overall_eq="A0493++"))["margin"] == 3.0


def test_only_made_comparisons_are_returned_and_unreadable_ones_have_no_margin(tmp_path: Path) -> None:
    data = EqBench3(write_benchmark(tmp_path))
    wanted = matchups(data, {"a": talks(data, "a"), "b": talks(data, "b")})
    answers = {
        wanted[0].key: Answer(wanted[0].key, 0, scores={"margin": 3.0, "warmth": 3.0}),
        wanted[1].key: Answer(wanted[1].key, 0, problem="no JSON object"),
    }
    made = comparisons(wanted, lambda key, _: answers.get(key))
    assert [one.margin for one in made] == [3.0, None]
