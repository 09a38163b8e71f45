"""Lines of published EMPA runs: one judged state path per line. own_format.py reads our own lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import numpy as np

from mica_ray.dialogue.judger import LEVELS
from mica_ray.files import JsonLine
from mica_ray.recordings.json_fields import (
    error_at,
    level_of,
    level_rows,
    number_of,
    objects_of,
    quoted,
    state_of,
    text_of,
    whole_number_of,
)
from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.types import AXES

Side = Literal["progress", "regress"]
SIDES: Mapping[str, Side] = {"Prog": "progress", "Neg": "regress"}
"""Names of the two sides of a judgement in the published runs."""
LEVEL_KEYS: Mapping[str, tuple[str, Side]] = {
    f"{axis}_{side}_level": (axis, SIDES[side]) for axis in AXES for side in SIDES
}


def read_run_dialogue(line: JsonLine, *, model: str) -> RecordedDialogue:
    """Read one dialogue of a published EMPA run.

    Fields: trajectory (points with turn, P_t, v_t, levels), script_id, P_0, termination_reason, model. A
    point without P_t is P_{t-1} + v_t; one without levels that does not move is a failed judgement. Keys
    other than the six levels are ignored and noted.

    Args:
        line: the JSON object.
        model: name used when the record has none.

    Raises:
        RecordingError: there is no start, a point is not an object, or a state is not three numbers.
    """
    scenario = text_of(line, "script_id", "case", "scenario", "id") or f"line {line.number}"
    points = _points(line)
    start = state_of(points[0].get("P_t") if points else None) or state_of(line.fields.get("P_0"))
    if start is None:
        raise error_at(line, "field 'P_0', or 'P_t' of the first point, must be three numbers.")
    notes: list[str] = []
    played = points[1:] if _is_start(points, start) else points
    states, progress, regress, judged = [start], [], [], []
    for index, point in enumerate(played, start=1):
        turn = whole_number_of(point.get("turn"))
        where = f"{scenario}, turn {index if turn is None else turn}"
        states.append(_next_state(line, point, states[-1], where))
        levels, problems = _levels(point.get("levels"))
        notes += [f"{where}: {problem}" for problem in problems]
        progress.append([levels.get((axis, "progress"), 0) for axis in AXES])
        regress.append([levels.get((axis, "regress"), 0) for axis in AXES])
        judged.append(bool(levels) or states[-1] != states[-2])
    ending = text_of(line, "termination_reason")
    unrecorded = np.full(len(played), np.nan)
    return RecordedDialogue(
        line=line,
        form="run",
        model=text_of(line, "model", "test_model_name") or model,
        scenario=scenario,
        states=np.array(states, dtype=np.float64),
        progress=level_rows(progress),
        regress=level_rows(regress),
        judged=np.array(judged, dtype=bool),
        rewards=unrecorded,
        returns=unrecorded,
        advantages=unrecorded,
        reply_tokens=unrecorded,
        talk=_talk(line.fields.get("history")),
        ending=ending,
        is_success="success" in ending.lower() if ending else None,
        category=text_of(line, "category"),
        difficulty=text_of(line, "difficulty"),
        dominant_axis=text_of(line, "dominant_axis"),
        step=whole_number_of(line.fields.get("step")),
        group=whole_number_of(line.fields.get("group")),
        notes=tuple(notes),
    )


def _points(line: JsonLine) -> list[Mapping[str, object]]:
    """Return the points of a published trajectory in the order of their turns."""
    points = objects_of(line, "trajectory")
    numbers = [number_of(point.get("turn")) for point in points]
    if any(number is None for number in numbers):
        return points
    order = sorted(range(len(points)), key=lambda index: numbers[index] or 0.0)
    return [points[index] for index in order]


def _is_start(points: Sequence[Mapping[str, object]], start: list[float]) -> bool:
    """Return whether the first point is P_0 rather than a played turn."""
    if not points:
        return False
    turn = number_of(points[0].get("turn"))
    return turn == 0 or (
        turn is None and not points[0].get("levels") and state_of(points[0].get("P_t")) == start
    )


def _next_state(line: JsonLine, point: Mapping[str, object], before: list[float], where: str) -> list[float]:
    for field in ("P_t", "v_t"):
        value = point.get(field)
        if value is None:
            continue
        found = state_of(value)
        if found is None:
            raise error_at(line, f"{where}: field {field!r} must be three numbers, got {quoted(value)}.")
        return found if field == "P_t" else [a + b for a, b in zip(before, found, strict=True)]
    return before


def _levels(levels: object) -> tuple[dict[tuple[str, Side], int], list[str]]:
    """Return the levels by axis and side, and a note on every irregularity."""
    if levels is None:
        return {}, []
    if not isinstance(levels, Mapping):
        return {}, [f"levels must be an object, got {quoted(levels)}: read as a failed judgement"]
    found: dict[tuple[str, Side], int] = {}
    problems: list[str] = []
    for key, value in levels.items():
        place = LEVEL_KEYS.get(key)
        if place is None:
            problems.append(f"unknown level {key} = {quoted(value)}: ignored")
            continue
        level = level_of(value, LEVELS[place[1]])
        if level is None:
            problems.append(f"level {key} = {quoted(value)} is not on the scale: read as 0")
        found[place] = level or 0
    if found:
        missing = [key for key, place in LEVEL_KEYS.items() if place not in found]
        problems += [f"level {key} is missing: read as 0" for key in missing]
    return found, problems


def _talk(messages: object) -> tuple[tuple[str, str], ...]:
    """Pair the actor's messages with the tested model's replies."""
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
