"""Lines that `mica train` and `mica evaluate` write (transcript.py, dialogue_log.py), read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mica_ray.dialogue.judger import LEVELS
from mica_ray.domains.sage import EMOTION, SAGE
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
from mica_ray.types import Stop


def read_own_dialogue(line: JsonLine, *, model: str) -> RecordedDialogue:
    """Read one dialogue as `mica train` or `mica evaluate` wrote it.

    Args:
        line: the JSON object.
        model: name used when the record has none.

    Raises:
        RecordingError: a field of the state path is missing or wrong.
    """
    start = state_of(line.fields.get("initial_state"))
    if start is None:
        found = quoted(line.fields["initial_state"])
        raise error_at(line, f"field 'initial_state' must be three numbers, got {found}.")
    turns = objects_of(line, "turns")
    judged = np.array([turn.get("delta") is not None for turn in turns], dtype=bool)
    states = np.array([start, *(_state(line, *item) for item in enumerate(turns))], dtype=np.float64)
    levels = [_levels(line, number, turn) for number, turn in enumerate(turns)]
    ending, domain, category = (text_of(line, name) for name in ("stop", "domain", "category"))
    is_emotion = domain == SAGE.name
    emotions = EMOTION.top + states[np.concatenate([[True], judged]), 1] if is_emotion else None
    step, group, sample = (whole_number_of(line.fields.get(name)) for name in ("step", "group", "sample"))
    return RecordedDialogue(
        line=line,
        form="own",
        model=text_of(line, "model") or model,
        scenario=text_of(line, "scenario") or f"line {line.number}",
        states=states,
        progress=level_rows([progress for progress, _ in levels]),
        regress=level_rows([regress for _, regress in levels]),
        judged=judged,
        rewards=_numbers(turns, "reward"),
        returns=_numbers(turns, "return"),
        advantages=_numbers(turns, "advantage"),
        reply_tokens=_numbers(turns, "reply_tokens"),
        talk=tuple((str(turn.get("user", "")), str(turn.get("reply", ""))) for turn in turns),
        ending=ending,
        is_success=ending == Stop.SUCCESS,
        is_failed=ending == Stop.FAILED,
        domain=domain,
        category=category,
        difficulty=text_of(line, "difficulty"),
        dominant_axis=text_of(line, "dominant_axis"),
        step=step,
        group=group,
        sample=sample,
        emotions=emotions,
        final_emotion=float("nan") if emotions is None else float(emotions[-1]),
    )


def _state(line: JsonLine, number: int, turn: Mapping[str, object]) -> list[float]:
    state = state_of(turn.get("state"))
    if state is None:
        found = quoted(turn.get("state"))
        raise error_at(line, f"turn {number}: field 'state' must be three numbers, got {found}.")
    return state


def _levels(line: JsonLine, number: int, turn: Mapping[str, object]) -> tuple[list[int], list[int]]:
    progress, regress = (_level_row(turn.get(side), LEVELS[side]) for side in ("progress", "regress"))
    if turn.get("delta") is not None and (progress is None or regress is None):
        raise error_at(
            line,
            f"turn {number}: 'progress' must be three levels 0..2 and 'regress' three levels -2..0, got "
            f"{quoted(turn.get('progress'))} and {quoted(turn.get('regress'))}.",
        )
    return progress or [0, 0, 0], regress or [0, 0, 0]


def _level_row(values: object, allowed: tuple[int, ...]) -> list[int] | None:
    if not isinstance(values, list) or len(values) != 3:
        return None
    levels = [level_of(value, allowed) for value in values]
    return None if None in levels else [level or 0 for level in levels]


def _numbers(turns: Sequence[Mapping[str, object]], field: str) -> np.ndarray:
    """Return a number of every turn as [T], NaN where there is none."""
    numbers = (number_of(turn.get(field)) for turn in turns)
    return np.array([np.nan if number is None else number for number in numbers], dtype=np.float64)
