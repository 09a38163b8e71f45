"""Chosen turns are spread over dialogues and turn numbers, and have everything that a judge sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mica_ray.domains.empa import EMPA
from mica_ray.judges.card.turns import choose_turns, echo_share, language_of, point_levels
from mica_ray.recordings.dialogue_files import read_dialogues
from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.types import Scenario
from tests.evaluation.recorded_files import write
from tests.judges.card.talks import POINTS, REPLIES, talk, talk_file


def dialogues(path: Path, *, num: int = 8, length: int = 8) -> tuple[RecordedDialogue, ...]:
    return read_dialogues(talk_file(path / "talks.jsonl", num=num, length=length))


def test_every_dialogue_and_every_eighth_of_a_dialogue_gives_one_turn(tmp_path: Path) -> None:
    turns = choose_turns(dialogues(tmp_path), EMPA, num_turns=8, seed=1)
    assert sorted(turn.number for turn in turns) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len({turn.case for turn in turns}) == 8


def test_dialogues_contribute_equally(tmp_path: Path) -> None:
    turns = choose_turns(dialogues(tmp_path, num=4), EMPA, num_turns=10, seed=0)
    assert sorted(Counter(turn.case for turn in turns).values()) == [2, 2, 3, 3]
    assert len({turn.id for turn in turns}) == 10


def test_all_turns_are_chosen_if_there_are_too_few(tmp_path: Path) -> None:
    read = dialogues(tmp_path, num=2, length=3)
    assert len(choose_turns(read, EMPA, num_turns=6, seed=0)) == 6
    assert len(choose_turns(read, EMPA, num_turns=7, seed=0)) == 6
    with pytest.raises(ValueError, match="num_turns must be >= 1, got 0"):
        choose_turns(read, EMPA, num_turns=0, seed=0)


def test_the_seed_decides(tmp_path: Path) -> None:
    read = dialogues(tmp_path)
    chosen = [[turn.id for turn in choose_turns(read, EMPA, num_turns=8, seed=seed)] for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_turn_has_its_text_state_and_recorded_points(tmp_path: Path) -> None:
    (turn,) = [
        one
        for one in choose_turns(dialogues(tmp_path, num=1, length=3), EMPA, num_turns=3, seed=0)
        if one.number == 3
    ]
    # Replies 0, 1, 2 move C by 0, 1 and 3 points.
    assert turn.state == (-29.0, -20.0, -20.0)
    assert turn.recorded.tolist() == [POINTS[2], 0, 0]
    assert turn.reply == REPLIES[2] and turn.num_turns == 3 and turn.scenario.language == "en"
    assert [spoken["reply"] for spoken in turn.dialogue] == list(REPLIES)


def test_turns_without_a_judgement_or_a_text_are_not_chosen(tmp_path: Path) -> None:
    fields = talk("script_1", [1, 1, 1, 1])
    fields["trajectory"][2]["levels"] = {}  # pyright: ignore
    fields["trajectory"][2]["P_t"] = fields["trajectory"][1]["P_t"]  # pyright: ignore
    fields["history"][7]["content"] = ""  # pyright: ignore
    read = read_dialogues(write(tmp_path / "talks.jsonl", [fields]))
    # Turn 2 is not judged, and turn 4 has no reply.
    assert [turn.number for turn in choose_turns(read, EMPA, num_turns=9, seed=0)] == [1, 3]
    silent = [replace(one, talk=()) for one in read]
    with pytest.raises(ValueError, match="No dialogue has a judged turn with its texts"):
        choose_turns(silent, EMPA, num_turns=9, seed=0)


def test_points_that_no_level_has_are_not_compared(tmp_path: Path) -> None:
    (one,) = dialogues(tmp_path, num=1, length=1)
    moved = replace(one, states=one.states + np.array([[0, 0, 0], [0.5, 3, 0]]))
    (turn,) = choose_turns([moved], EMPA, num_turns=1, seed=0)
    assert np.isnan(turn.recorded[0]) and turn.recorded[1:].tolist() == [3, 0]


def test_a_known_person_has_the_card_and_another_id(tmp_path: Path) -> None:
    read = dialogues(tmp_path, num=1, length=1)
    card = Scenario(
        id="script_0", domain="empa", category="work", dominant_axis="A", persona="A proud man.", opening="",
        initial_state=(-30.0, -20.0, -20.0), stages=(), split="test", language="zh",
    )  # fmt: skip
    (known,) = choose_turns(read, EMPA, num_turns=1, seed=0, scenarios=[card])
    (unknown,) = choose_turns(read, EMPA, num_turns=1, seed=0)
    assert known.scenario == card and unknown.scenario.persona == ""
    assert known.id != unknown.id  # so that a log never mixes their judgements


def test_points_are_those_of_the_rubric() -> None:
    # Progress 0, 1, 3 and regress 0, -2, -4 (C) or -5 (A, P), in all sums.
    assert point_levels(EMPA) == (-5, -4, -3, -2, -1, 0, 1, 3)


@pytest.mark.parametrize(
    ("user", "reply", "share"),
    [
        ("I lost my job.", "I LOST MY JOB", 1.0),
        ("I lost my job.", "Okay.", 0.0),
        ("我丢了工作", "你丢了工作", 2 / 3),  # of 你丢了, 丢了工, 了工作 all but the first
        ("abcdef", "ab", 0.0),  # shorter than three letters
    ],
)
def test_echo_is_the_share_of_repeated_trigrams(user: str, reply: str, share: float) -> None:
    assert echo_share(user, reply) == pytest.approx(share)


def test_a_dialogue_is_chinese_above_a_fifth_of_its_letters() -> None:
    assert [language_of([f"{'我' * chinese}{'a' * (10 - chinese)}"]) for chinese in (1, 2, 3)] == [
        "en",
        "en",
        "zh",
    ]
    assert language_of([]) == "en"
