"""Stages are revealed in order and once each, whatever the model asks for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mica_ray.chat.model import ChatError
from mica_ray.dialogue.director import Direction, Director, Plot, direction_schema, read_direction
from mica_ray.dialogue.moves import ARGUMENTS, Move, moves_text
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.types import Sampling, Status
from tests.dialogue.tiny_domain import DOMAIN, SCENARIO, Forever, QueuedChat

DIALOGUE: list[SpokenTurn] = [{"user": SCENARIO.opening, "reply": "I hear you."}]
PLOT = Plot(("first", "second"))


def move(name: str, guidance: object = "softly") -> str:
    return json.dumps({"move": name, "guidance": guidance})


async def directed(model: QueuedChat, plot: Plot = PLOT, deadline_seconds: float = 30.0) -> Direction:
    director = Director(model, DOMAIN, Sampling(), deadline_seconds)
    return await director.direct(
        SCENARIO, DIALOGUE, state=SCENARIO.initial_state, energy=[1.0], plot=plot, seed=5
    )


def test_stages_are_told_in_order_and_once() -> None:
    plot, fragments = PLOT, []
    while plot.upcoming:
        direction = read_direction(move("reveal_stage"), plot)
        fragments.append(direction.fragment)
        plot = plot.after(direction)
    assert fragments == ["first", "second"]
    assert (plot.revealed, plot.upcoming) == (("first", "second"), ())


@pytest.mark.parametrize("name", [one for one in Move if one is not Move.REVEAL_STAGE])
def test_other_moves_tell_no_stage(name: Move) -> None:
    direction = read_direction(move(name), PLOT)
    assert (direction.move, direction.fragment) == (name, None)
    assert PLOT.after(direction) == PLOT


def test_told_story_cannot_be_told_again() -> None:
    told = Plot(("first",), num_revealed=1)
    with pytest.raises(ValueError, match="move must be one of reveal_memory"):
        read_direction(move("reveal_stage"), told)
    assert "reveal_stage" not in json.dumps(direction_schema(told))
    assert "reveal_stage" in json.dumps(direction_schema(PLOT))


@pytest.mark.parametrize("answer", [move("dance"), move("continue", 3), move("continue", ["a"]), "{}", "end"])
def test_unusable_answer_is_refused(answer: str) -> None:
    with pytest.raises(ValueError):
        read_direction(answer, PLOT)


@pytest.mark.parametrize("guidance", [None, "", "  "])
def test_empty_guidance_is_none(guidance: object) -> None:
    assert read_direction(move("continue", guidance), PLOT).guidance is None


def test_observing_director_guides_nobody() -> None:
    assert read_direction(move("observe"), PLOT).guidance is None


async def test_director_is_asked_under_its_seed_and_told_the_plot() -> None:
    model = QueuedChat(move("reveal_stage"))
    direction = await directed(model, Plot(("first", "second"), num_revealed=1))
    assert direction == Direction(Move.REVEAL_STAGE, "softly", "second")
    assert model.asked[0].sampling.seed == 5
    assert (model.asked[0].case["told"], model.asked[0].case["untold"]) == (["first"], ["second"])


async def test_repaired_direction_counts_as_repaired() -> None:
    model = QueuedChat(move("dance"), move("end"))
    assert (await directed(model)) == Direction(Move.END, "softly", status=Status.REPAIRED)
    assert "move must be one of" in model.asked[1].messages[-1]["content"]


async def test_two_unusable_answers_let_the_dialogue_go_on_as_a_counted_failure() -> None:
    direction = await directed(QueuedChat("no"))
    assert (direction.move, direction.guidance, direction.fragment) == (Move.CONTINUE, None, None)
    assert direction.status is Status.INVALID
    assert direction.error == "the answer holds no JSON object (after one repair attempt)"


async def test_model_that_fails_lets_the_dialogue_go_on_as_a_counted_failure() -> None:
    down = await directed(QueuedChat(ChatError("down", kind="infrastructure", endpoint="tiny")))
    late = await directed(QueuedChat(Forever()), deadline_seconds=0.1)
    assert (down.move, down.status, down.error) == (Move.CONTINUE, Status.ABANDONED, "down")
    assert (late.move, late.status, late.error) == (Move.CONTINUE, Status.TIMED_OUT, "no answer within 0.1 s")


def variants(plot: Plot) -> dict[str, dict[str, Any]]:
    schema = json.loads(json.dumps(direction_schema(plot)))
    calls = schema["properties"]["call"]["anyOf"]
    return {call["properties"]["move"]["enum"][0]: call for call in calls}


def test_schema_is_one_call_of_seven_each_with_its_own_arguments() -> None:
    calls = variants(Plot(("first", "second"), num_revealed=1))
    assert {name: call["required"] for name, call in calls.items()} == {
        "reveal_stage": ["move", "stage", "guidance"],
        "reveal_memory": ["move", "memory", "guidance"],
        "adjust_empathy": ["move", "openness", "guidance"],
        "turning_point": ["move", "turn", "guidance"],
        "observe": ["move", "guidance"],
        "continue": ["move", "guidance"],
        "end": ["move", "reason", "guidance"],
    }
    assert calls["reveal_stage"]["properties"]["stage"]["enum"] == [2]
    assert calls["adjust_empathy"]["properties"]["openness"]["enum"] == ["more_open", "more_guarded"]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", list(Move))
def test_every_call_the_schema_allows_is_understood(name: Move, language: str) -> None:
    for choice in (ARGUMENTS[name].choices if name in ARGUMENTS else None) or ("x",):
        fields = variants(PLOT)[name]["properties"]
        call = dict.fromkeys(fields, choice) | {"move": name, "guidance": ""}
        if "stage" in call:
            call["stage"] = 1
        assert read_direction(json.dumps({"call": call}), PLOT, language=language).move is name


def test_actor_hears_the_argument_and_the_guidance_in_its_language() -> None:
    call = json.dumps({"move": "reveal_memory", "memory": "外婆的院子", "guidance": "慢慢说。"})
    assert read_direction(call, PLOT, language="zh").guidance == "你想起了：外婆的院子慢慢说。"
    call = json.dumps({"move": "adjust_empathy", "openness": "more_guarded", "guidance": "Short."})
    assert read_direction(call, PLOT).guidance == "You are more guarded than before. Short."
    # The reason why the person leaves is for the record, not for the Actor.
    assert read_direction('{"move": "end", "reason": "all said"}', PLOT).guidance is None


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ({"move": "reveal_stage", "stage": 2}, "stage must be 1, the next one; got 2"),
        ({"move": "reveal_stage", "stage": "one"}, "stage must be 1"),
        ({"move": "adjust_empathy", "openness": "warm"}, "openness must be one of more_open, more_guarded"),
        ({"move": "turning_point", "turn": 3}, "turn must be text; got 3"),
        ({"move": "reveal_memory", "memory": " "}, "reveal_memory needs memory or guidance"),
        ({"move": "reveal_memory", "memory": ["a"]}, "memory must be text"),
        ({"call": {"move": "dance"}}, "move must be one of reveal_stage"),
    ],
)
def test_argument_that_does_not_fit_its_move_is_refused(call: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_direction(json.dumps(call), PLOT)


@pytest.mark.parametrize(
    ("language", "heading"), [("en", "Each move"), ("zh", "每个动作"), ("fr", "Each move")]
)
def test_arguments_are_explained_in_the_language_of_the_scenario(language: str, heading: str) -> None:
    text = moves_text(PLOT.moves, 1, language)
    assert text.startswith(heading)
    assert [line.partition("(")[0] for line in text.splitlines()[1:]] == [f"- {move}" for move in Move]


async def test_director_reads_the_arguments_of_the_moves_that_are_possible() -> None:
    model = QueuedChat(move("observe"))
    await directed(model, Plot(("first",), num_revealed=1))
    instructions = model.asked[0].messages[0]["content"]
    assert instructions.startswith("You direct.\n\nEach move is a call")
    assert "- adjust_empathy(" in instructions and "reveal_stage" not in instructions
