"""The Director chooses the stage to reveal, and each is revealed at most once."""

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


def move(name: str, guidance: object = "softly", **argument: object) -> str:
    return json.dumps({"move": name, "guidance": guidance} | argument)


def reveal(stage: object) -> str:
    return move("reveal_stage", stage=stage)


async def directed(model: QueuedChat, plot: Plot = PLOT, deadline_seconds: float = 30.0) -> Direction:
    director = Director(model, DOMAIN, Sampling(), deadline_seconds)
    return await director.direct(
        SCENARIO, DIALOGUE, state=SCENARIO.initial_state, energy=[1.0], plot=plot, seed=5
    )


def test_director_chooses_which_stage_is_told() -> None:
    later = read_direction(reveal(2), PLOT)
    assert (later.fragment, later.stage) == ("second", 2)
    plot = PLOT.after(later)
    assert (plot.revealed, plot.upcoming) == (("second",), {1: "first"})
    plot = plot.after(read_direction(reveal("1"), plot))
    assert (plot.revealed, plot.upcoming) == (("second", "first"), {})


@pytest.mark.parametrize("stage", [0, 2, 4, "three", None, 1.5])
def test_stage_that_is_told_or_does_not_exist_is_refused(stage: object) -> None:
    told = Plot(("first", "second", "third"), told=(2,))
    with pytest.raises(ValueError, match="stage must be a number in untold, 1, 3; got"):
        read_direction(reveal(stage), told)
    assert read_direction(reveal(3), told).fragment == "third"


def test_stage_has_to_be_named() -> None:
    with pytest.raises(ValueError, match="stage must be a number in untold, 1, 2; got None"):
        read_direction(move("reveal_stage"), PLOT)


@pytest.mark.parametrize("name", [one for one in Move if one is not Move.REVEAL_STAGE])
def test_other_moves_tell_no_stage(name: Move) -> None:
    direction = read_direction(move(name), PLOT)
    assert (direction.move, direction.fragment) == (name, None)
    assert PLOT.after(direction) == PLOT


def test_told_story_cannot_be_told_again() -> None:
    told = Plot(("first",), told=(1,))
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
    model = QueuedChat(reveal(2))
    direction = await directed(model, Plot(("first", "second"), told=(1,)))
    assert direction == Direction(Move.REVEAL_STAGE, "softly", "second", 2)
    assert model.asked[0].sampling.seed == 5
    case = model.asked[0].case
    assert (case["told"], case["untold"]) == (["first"], [{"stage": 2, "text": "second"}])


async def test_stage_that_was_already_told_is_asked_for_again_and_counted() -> None:
    told = Plot(("first", "second"), told=(1,))
    repaired = await directed(QueuedChat(reveal(1), reveal(2)), told)
    assert (repaired.fragment, repaired.status) == ("second", Status.REPAIRED)
    failed = await directed(QueuedChat(reveal(1)), told)
    assert (failed.move, failed.fragment, failed.status) == (Move.CONTINUE, None, Status.INVALID)
    assert "stage must be a number in untold, 2; got 1" in str(failed.error)


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
    calls = variants(Plot(("first", "second"), told=(1,)))
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
    text = moves_text(tuple(Move), language)
    assert text.startswith(heading)
    assert [line.partition("(")[0] for line in text.splitlines()[1:]] == [f"- {move}" for move in Move]


async def test_instructions_are_equal_in_every_turn_so_that_their_prefix_is_cached() -> None:
    model = QueuedChat(move("observe"))
    for told in ((), (1,), (1, 2)):
        await directed(model, Plot(("first", "second"), told=told))
    first, *others = [asked.messages[0]["content"] for asked in model.asked]
    assert others == [first, first]
    assert first.startswith("You direct.\n\nEach move is a call") and "- reveal_stage(stage: " in first
