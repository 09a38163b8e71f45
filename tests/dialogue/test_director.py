"""The story is told in order, each stage once, whatever the model asks for."""

from __future__ import annotations

import json

import pytest

from mica_ray.chat.model import ChatError
from mica_ray.dialogue.case_file import SpokenTurn
from mica_ray.dialogue.director import Direction, Director, Move, Plot, direction_schema, read_direction
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
    while plot.untold:
        direction = read_direction(move("reveal_stage"), plot)
        fragments.append(direction.fragment)
        plot = plot.after(direction)
    assert fragments == ["first", "second"]
    assert (plot.told, plot.untold) == (("first", "second"), ())


@pytest.mark.parametrize("name", [one for one in Move if one is not Move.REVEAL_STAGE])
def test_other_moves_tell_no_stage(name: Move) -> None:
    direction = read_direction(move(name), PLOT)
    assert (direction.move, direction.fragment) == (name, None)
    assert PLOT.after(direction) == PLOT


def test_told_story_cannot_be_told_again() -> None:
    told = Plot(("first",), num_told=1)
    with pytest.raises(ValueError, match="move must be one of reveal_memory"):
        read_direction(move("reveal_stage"), told)
    schema = json.loads(json.dumps(direction_schema(told)))
    assert "reveal_stage" not in schema["properties"]["move"]["enum"]
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
    direction = await directed(model, Plot(("first", "second"), num_told=1))
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
