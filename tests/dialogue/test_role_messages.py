"""Each role sees what it needs and nothing more."""

from __future__ import annotations

import json
from typing import Any

from mica_ray.dialogue.role_messages import SpokenTurn, actor_messages, director_messages, judge_messages
from mica_ray.types import Message
from tests.dialogue.tiny_domain import DOMAIN, SCENARIO

DIALOGUE: list[SpokenTurn] = [{"user": "The move left me lonely.", "reply": "Ça va?"}]
STATE = (0.0, -2.0, -1.0)
COMMON = {
    "scenario": "tiny-1",
    "persona": "Ada, who moved to a new town.",
    "axes": {"C": "axis C", "A": "axis A", "P": "axis P"},
    "need_order": ["A", "C", "P"],
    "dominant_axis": "A",
    "topic": "move",
    "initial_state": {"C": -1.0, "A": -2.0, "P": -2.0},
    "state": {"C": 0.0, "A": -2.0, "P": -1.0},
    "dialogue": [{"user": "The move left me lonely.", "reply": "Ça va?"}],
}


def parts(messages: tuple[Message, Message]) -> tuple[str, dict[str, Any]]:
    system, user = messages
    assert (system["role"], user["role"]) == ("system", "user")
    return system["content"], json.loads(user["content"])


def test_judge_sees_the_dialogue_and_no_plot() -> None:
    instructions, case = parts(judge_messages(DOMAIN, SCENARIO, state=STATE, dialogue=DIALOGUE))
    assert instructions == "You judge."
    assert case == COMMON | {"role": "judge"}


def test_director_sees_energy_and_the_plot() -> None:
    messages = director_messages(
        DOMAIN, SCENARIO, state=STATE, dialogue=DIALOGUE, energy=[1.5], revealed=("a",), upcoming=("b", "c")
    )
    instructions, case = parts(messages)
    assert instructions == "You direct."
    plot = {"turn": 1, "energy": [1.5], "told": ["a"], "untold": ["b", "c"]}
    assert case == COMMON | {"role": "director"} | plot


def test_actor_sees_what_is_told_and_not_what_comes() -> None:
    messages = actor_messages(
        DOMAIN, SCENARIO, state=STATE, dialogue=DIALOGUE, revealed=("a",), guidance=None, fragment="b"
    )
    instructions, case = parts(messages)
    assert instructions == "You are the user."
    assert case == COMMON | {"role": "actor", "told": ["a"], "guidance": None, "fragment": "b"}
