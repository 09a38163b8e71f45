"""What a role is shown: instructions in the scenario's language, and the case as one JSON object.

Language models and scripted models read the same object. What comes back is read by the roles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from mica_ray.dialogue.domain import Domain
from mica_ray.types import Message, Scenario, State

AXES = ("C", "A", "P")
"""Axis keys in the order of every state vector."""

Role = Literal["actor", "director", "judge"]


class SpokenTurn(TypedDict):
    """One exchange as the roles read it."""

    user: str
    reply: str | None
    """None when the policy has not answered yet."""


def judge_messages(
    domain: Domain, scenario: Scenario, *, state: State, dialogue: Sequence[SpokenTurn]
) -> tuple[Message, Message]:
    """Show the judge a dialogue whose last reply is to be scored.

    It sees no plot stage: a judge that knows what comes next scores the script and not the reply.

    Args:
        domain: whose instructions and axes.
        scenario: who the user is.
        state: P_{t-1}, points, before the reply to score.
        dialogue: oldest first; the last entry is the one to score.
    """
    prompts = domain.prompts(scenario.language)
    return _messages(prompts.judge_prompt, _case("judge", domain, scenario, state, dialogue))


def director_messages(
    domain: Domain,
    scenario: Scenario,
    *,
    state: State,
    dialogue: Sequence[SpokenTurn],
    energy: Sequence[float],
    revealed: Sequence[str],
    upcoming: Sequence[str],
) -> tuple[Message, Message]:
    """Show the Director a dialogue whose last reply has been scored.

    Args:
        domain: whose instructions and axes.
        scenario: who the user is.
        state: P_t, points, after the last reply.
        dialogue: oldest first; its length is the number of turns played.
        energy: dE of each turn played, points.
        revealed: story fragments already revealed, in order.
        upcoming: the fragments to come, in order.
    """
    case = _case("director", domain, scenario, state, dialogue)
    plot = {"turn": len(dialogue), "energy": list(energy), "told": list(revealed), "untold": list(upcoming)}
    return _messages(domain.prompts(scenario.language).director_prompt, case | plot)


def actor_messages(
    domain: Domain,
    scenario: Scenario,
    *,
    state: State,
    dialogue: Sequence[SpokenTurn],
    revealed: Sequence[str],
    guidance: str | None,
    fragment: str | None,
) -> tuple[Message, Message]:
    """Show the Actor a dialogue that ends with the policy's reply.

    Args:
        domain: whose instructions and axes.
        scenario: who the user is.
        state: P_t, points, after the last reply.
        dialogue: oldest first.
        revealed: story fragments revealed in earlier messages.
        guidance: what the Director asks for, None when nothing.
        fragment: the story fragment to tell now, None when there is none.
    """
    case = _case("actor", domain, scenario, state, dialogue)
    plot = {"told": list(revealed), "guidance": guidance, "fragment": fragment}
    return _messages(domain.prompts(scenario.language).actor_prompt, case | plot)


def _case(
    role: Role, domain: Domain, scenario: Scenario, state: State, dialogue: Sequence[SpokenTurn]
) -> dict[str, object]:
    return {
        "role": role,
        "scenario": scenario.id,
        "persona": scenario.persona,
        "topic": scenario.topic,
        "axes": dict(zip(AXES, domain.prompts(scenario.language).axis_names, strict=True)),
        "need_order": list(domain.need_order),
        "dominant_axis": scenario.dominant_axis,
        "initial_state": dict(zip(AXES, scenario.initial_state, strict=True)),
        "state": dict(zip(AXES, state, strict=True)),
        "dialogue": list(dialogue),
    }


def _messages(instructions: str, case: Mapping[str, object]) -> tuple[Message, Message]:
    return (
        {"role": "system", "content": instructions},
        {"role": "user", "content": json.dumps(case, ensure_ascii=False, allow_nan=False)},
    )
