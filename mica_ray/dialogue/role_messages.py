"""The input of a role: instructions, and the case as one JSON object.

Language models and scripted roles read the same object, in which control marks are broken
(control_marks.py). The roles themselves parse the answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypedDict

from mica_ray.control_marks import escape_json
from mica_ray.dialogue.domain import Domain
from mica_ray.types import AXES, Message, RoleName, Scenario, State


class SpokenTurn(TypedDict):
    """One turn as the roles see it."""

    user: str
    reply: str | None
    """None if the policy has not replied yet."""


def judge_messages(
    domain: Domain, scenario: Scenario, *, state: State, dialogue: Sequence[SpokenTurn]
) -> tuple[Message, Message]:
    """Build the judge's input for scoring the last reply: the person, the weights of the needs, the dialogue.

    It contains no stages: a judge that knows the story scores the script and not the reply. It contains no
    state, so that the levels of a reply do not depend on those of earlier replies.

    Args:
        domain: source of instructions and axes.
        scenario: the simulated user.
        state: P_{t-1}, points, before the reply to score; only for domains with a potential.
        dialogue: oldest turn first; the last entry is the one to score.
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
    upcoming: Mapping[int, str],
) -> tuple[Message, Message]:
    """Build the Director's input after the last reply has been scored: all that is known.

    Args:
        domain: source of instructions and axes.
        scenario: the simulated user.
        state: P_t, points, after the last reply.
        dialogue: oldest turn first; its length is the number of turns.
        energy: dE of each turn, points.
        revealed: story fragments already revealed, in that order.
        upcoming: story fragments still to be revealed, by number.
    """
    case = _case("director", domain, scenario, state, dialogue)
    untold = [{"stage": number, "text": text} for number, text in upcoming.items()]
    plot = {"turn": len(dialogue), "energy": list(energy), "told": list(revealed), "untold": untold}
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
    """Build the Actor's input for the next user message: who it is, the dialogue and the Director's guidance.

    Args:
        domain: source of instructions and axes.
        scenario: the simulated user.
        state: P_t, points, after the last reply; only for domains with a potential.
        dialogue: oldest turn first.
        revealed: story fragments of earlier messages.
        guidance: the Director's guidance; None for none.
        fragment: the story fragment to reveal now; None for none.
    """
    case = _case("actor", domain, scenario, state, dialogue)
    plot = {"told": list(revealed), "guidance": guidance, "fragment": fragment}
    return _messages(domain.prompts(scenario.language).actor_prompt, case | plot)


def _case(
    role: RoleName, domain: Domain, scenario: Scenario, state: State, dialogue: Sequence[SpokenTurn]
) -> dict[str, object]:
    """Return what a role sees, without the plot.

    What is constant in a dialogue is first and what changes in every turn is last, so that an endpoint that
    caches prefixes computes each message of the dialogue once.
    """
    case: dict[str, object] = {
        "role": role,
        "scenario": scenario.id,
        "persona": scenario.persona,
        "topic": scenario.topic,
    }
    # A scalar is all that the roles of a domain with a potential have to go by.
    sees_state = role == "director" or domain.potential is not None
    if role != "actor":
        case["axes"] = dict(zip(AXES, domain.prompts(scenario.language).axis_names, strict=True))
        case["priorities"] = domain.priorities(scenario)
    if domain.shows_needs:
        case["need_order"] = list(domain.need_order)
    if domain.shows_needs or sees_state:
        case["initial_state"] = dict(zip(AXES, scenario.initial_state, strict=True))
    case["dialogue"] = list(dialogue)
    if sees_state:
        case["state"] = dict(zip(AXES, state, strict=True))
    return case


def _messages(instructions: str, case: Mapping[str, object]) -> tuple[Message, Message]:
    return (
        {"role": "system", "content": instructions},
        # The case is text that others wrote: policy, simulated user, Director and scenario files.
        {"role": "user", "content": json.dumps(escape_json(case), ensure_ascii=False, allow_nan=False)},
    )
