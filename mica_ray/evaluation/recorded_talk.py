"""What was said and earned in recorded dialogues: of the published EMPA runs, and of our own logs.

States and levels are read in recorded_paths.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from mica_ray.evaluation.recorded_lines import Line, number_of


def talk_of(line: Line) -> tuple[tuple[str, str], ...]:
    """Give (user message, reply) of each turn, in order; empty where the record holds no words."""
    if isinstance(line.fields.get("turns"), list):
        return tuple((str(turn.get("user", "")), str(turn.get("reply", ""))) for turn in own_turns(line))
    return _paired(line.fields.get("history"))


def own_turns(line: Line) -> list[Mapping[str, object]]:
    """Give the turns of a dialogue of our own."""
    return cast("list[Mapping[str, object]]", line.fields["turns"])


def recorded_rewards(line: Line) -> np.ndarray | None:
    """Give what the turns of our own dialogue earned [T]; None for a dialogue that nobody trained on.

    A turn that earned nothing, because its judgement failed, has 0 here: whoever reads it knows the mask.
    """
    earned = [number_of(turn.get("reward")) for turn in own_turns(line)]
    if all(value is None for value in earned):
        return None
    return np.array([value or 0.0 for value in earned], dtype=np.float64)


def _paired(messages: object) -> tuple[tuple[str, str], ...]:
    """Pair the messages of a published run: the actor's, and the tested model's reply to it."""
    talk: list[tuple[str, str]] = []
    user = ""
    for message in messages if isinstance(messages, list) else ():
        fields = cast("Mapping[str, object]", message if isinstance(message, dict) else {})
        text = str(fields.get("content", ""))
        if fields.get("role") == "actor":
            user = text
        elif fields.get("role") == "test_model":
            talk.append((user, text))
            user = ""
    return tuple(talk)
