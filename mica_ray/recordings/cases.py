"""Recorded dialogues as state paths with the judge's levels: of the published EMPA runs, and of our own logs.

Both become a `RecordedCase`, which rescore.py scores and endings.py replays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from mica_ray.dialogue.judger import LEVELS
from mica_ray.recordings.lines import Line, number_of, shown
from mica_ray.types import Stop

AXES = ("C", "A", "P")
Side = Literal["progress", "regress"]
SIDES: Mapping[str, Side] = {"Prog": "progress", "Neg": "regress"}
"""What the published runs call the two sides of a judgement."""
LEVEL_KEYS: Mapping[str, tuple[str, Side]] = {
    f"{axis}_{side}_level": (axis, SIDES[side]) for axis in AXES for side in SIDES
}


@dataclass(frozen=True, slots=True)
class RecordedCase:
    """One recorded dialogue as numbers: all that a score needs."""

    case: str
    model: str
    """Empty when the record names none."""
    line: Line
    states: np.ndarray
    """[T+1, 3] points, P_0 first."""
    progress: np.ndarray
    """[T, 3] levels 0..2."""
    regress: np.ndarray
    """[T, 3] levels -2..0."""
    lost: np.ndarray
    """[T] bool, the turn's judgement failed; the state stands still and the levels are 0 there."""
    ending: str
    """Why it ended, as recorded; empty when the record does not say."""
    is_success: bool | None
    """None when the record does not say."""
    is_failed: bool = False
    """A simulator or an engine failed: the dialogue says nothing about the policy."""
    category: str = ""
    difficulty: str = ""
    dominant_axis: str = ""
    notes: tuple[str, ...] = ()
    """What was odd and how it was taken, each beginning with case and turn."""

    @property
    def num_turns(self) -> int:
        """T."""
        return len(self.states) - 1


def read_case(line: Line, form: Literal["run", "own"]) -> RecordedCase:
    """Read one dialogue of a published EMPA run, or one of our own.

    Raises:
        RecordingError: a field is missing or wrong.
    """
    return read_run_case(line) if form == "run" else read_own_case(line)


def read_run_case(line: Line) -> RecordedCase:
    """Read one dialogue of a published EMPA run.

    Fields: trajectory (points with turn, P_t, v_t, levels), script_id, P_0, termination_reason, model. A
    point without P_t is P_{t-1} + v_t; one without levels that does not move is a failed judgement. Keys
    beside the six levels are passed over and noted.

    Raises:
        RecordingError: no start, a point that is no object, a state that is no three numbers.
    """
    case = line.text("script_id", "case", "scenario", "id") or f"line {line.number}"
    points = _points(line)
    start = _state(points[0].get("P_t") if points else None) or _state(line.fields.get("P_0"))
    if start is None:
        raise line.error("field 'P_0' must be three numbers, or the first point's 'P_t'")
    notes: list[str] = []
    played = points[1:] if _is_start(points, start) else points
    states, progress, regress, lost = [start], [], [], []
    for index, point in enumerate(played, start=1):
        where = f"{case}, turn {_turn(point, index)}"
        states.append(_next_state(line, point, states[-1], where))
        found, problems = _levels(point.get("levels"))
        notes += [f"{where}: {problem}" for problem in problems]
        progress.append([found.get((axis, "progress"), 0) for axis in AXES])
        regress.append([found.get((axis, "regress"), 0) for axis in AXES])
        lost.append(not found and states[-1] == states[-2])
    ending = line.text("termination_reason")
    return RecordedCase(
        case=case,
        model=line.text("model", "test_model_name"),
        line=line,
        states=np.array(states, dtype=np.float64),
        progress=_array(progress),
        regress=_array(regress),
        lost=np.array(lost, dtype=bool),
        ending=ending,
        is_success="success" in ending.lower() if ending else None,
        is_failed=not played,
        category=line.text("category"),
        difficulty=line.text("difficulty"),
        dominant_axis=line.text("dominant_axis"),
        notes=tuple(notes),
    )


def read_own_case(line: Line) -> RecordedCase:
    """Read one dialogue as `mica train` and `mica evaluate` write it (recordings/transcript.py).

    Raises:
        RecordingError: a field of the path is missing or wrong.
    """
    case = line.text("scenario") or f"line {line.number}"
    start = _state(line.fields.get("initial_state"))
    if start is None:
        raise line.error(f"field 'initial_state' must be three numbers; got {line.fields['initial_state']!r}")
    states, progress, regress, lost = [start], [], [], []
    for number, turn in enumerate(_objects(line, "turns")):
        levels = [_row(turn.get(side), LEVELS[side]) for side in ("progress", "regress")]
        state = _state(turn.get("state"))
        if state is None:
            raise line.error(f"turn {number}: field 'state' must be three numbers; got {turn.get('state')!r}")
        is_lost = turn.get("delta") is None
        if not is_lost and None in levels:
            raise line.error(f"turn {number}: 'progress' and 'regress' must be levels 0..2 and -2..0")
        states.append(state)
        progress.append(levels[0] or [0, 0, 0])
        regress.append(levels[1] or [0, 0, 0])
        lost.append(is_lost)
    stop = line.text("stop")
    return RecordedCase(
        case=case,
        model=line.text("model"),
        line=line,
        states=np.array(states, dtype=np.float64),
        progress=_array(progress),
        regress=_array(regress),
        lost=np.array(lost, dtype=bool),
        ending=stop,
        is_success=stop == Stop.SUCCESS,
        is_failed=stop == Stop.FAILED or not states[1:],
        category=line.text("category"),
        difficulty=line.text("difficulty"),
        dominant_axis=line.text("dominant_axis"),
    )


def _points(line: Line) -> list[Mapping[str, object]]:
    """Give the points of a published trajectory in the order of their turns."""
    points = _objects(line, "trajectory")
    numbers = [number_of(point.get("turn")) for point in points]
    if any(number is None for number in numbers):
        return points
    order = sorted(range(len(points)), key=lambda index: numbers[index] or 0.0)
    return [points[index] for index in order]


def _objects(line: Line, field: str) -> list[Mapping[str, object]]:
    items = line.fields[field]
    assert isinstance(items, list), "the format was told by it"
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise line.error(f"field {field!r}: entry {index} must be an object; got {shown(item)}")
    return items


def _is_start(points: Sequence[Mapping[str, object]], start: list[float]) -> bool:
    """Say whether the first point is P_0 and no played turn."""
    if not points:
        return False
    turn = number_of(points[0].get("turn"))
    return turn == 0 or (
        turn is None and not points[0].get("levels") and _state(points[0].get("P_t")) == start
    )


def _turn(point: Mapping[str, object], index: int) -> int:
    turn = number_of(point.get("turn"))
    return index if turn is None else int(turn)


def _next_state(line: Line, point: Mapping[str, object], before: list[float], where: str) -> list[float]:
    for field in ("P_t", "v_t"):
        value = point.get(field)
        if value is None:
            continue
        found = _state(value)
        if found is None:
            raise line.error(f"{where}: field {field!r} must be three numbers; got {shown(value)}")
        return found if field == "P_t" else [a + b for a, b in zip(before, found, strict=True)]
    return before


def _levels(levels: object) -> tuple[dict[tuple[str, Side], int], list[str]]:
    """Give the levels by axis and side, and what was odd about the rest."""
    if levels is None:
        return {}, []
    if not isinstance(levels, Mapping):
        return {}, [f"levels are no object but {shown(levels)}: taken as a failed judgement"]
    found: dict[tuple[str, Side], int] = {}
    problems: list[str] = []
    for key, value in levels.items():
        place = LEVEL_KEYS.get(key)
        if place is None:
            problems.append(f"stray level {key} = {shown(value)}: passed over")
            continue
        level = _level(value, LEVELS[place[1]])
        if level is None:
            problems.append(f"level {key} = {shown(value)} is none of the scale's: taken as 0")
        found[place] = level or 0
    if found:
        missing = [key for key, place in LEVEL_KEYS.items() if place not in found]
        problems += [f"level {key} is missing: taken as 0" for key in missing]
    return found, problems


def _level(value: object, allowed: Sequence[int]) -> int | None:
    """Read a level, such a number as text ("1") included."""
    if isinstance(value, str):
        return next((level for level in allowed if value.strip() == str(level)), None)
    number = number_of(value)
    return int(number) if number in allowed and number is not None else None


def _row(values: object, allowed: Sequence[int]) -> list[int] | None:
    if not isinstance(values, list) or len(values) != 3:
        return None
    levels = [_level(value, allowed) for value in values]
    return None if None in levels else [level or 0 for level in levels]


def _state(value: object) -> list[float] | None:
    if not isinstance(value, list) or len(value) != 3:
        return None
    numbers = [number_of(item) for item in value]
    return None if None in numbers else [number or 0.0 for number in numbers]


def _array(rows: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


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
