"""Files of judged dialogues, one JSON object a line, as `DrawnDialogue`s: our logs and the published runs.

A dialogue that cannot be drawn (failed, or nothing played) is counted, a line that is wrong is named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from mica_ray.reporting.drawn_dialogue import AXES, DrawnDialogue, Outcome

_OUTCOMES: Mapping[str, Outcome] = {"success": "success", "collapse": "failure", "stall": "failure"}
_METADATA = "case_metadata.json"
_SIDES = {"progress": ("Prog", (0, 1, 2)), "regress": ("Neg", (0, -1, -2))}


class DialogueFileError(ValueError):
    """A file of dialogues that cannot be drawn; the message names the file, the line and the field."""


@dataclass(frozen=True, slots=True)
class DialogueFiles:
    """What was read."""

    dialogues: tuple[DrawnDialogue, ...]
    num_left_out: int
    """Dialogues of which there is nothing to draw: the simulator failed, or no turn was played."""


def read_dialogue_files(paths: Sequence[Path]) -> DialogueFiles:
    """Read files in either format, told apart line by line: "turns" is ours, "trajectory" a published run's.

    A model that the lines do not name is called by its file, `.../gpt-4o.jsonl` "gpt-4o".

    Raises:
        DialogueFileError: a file cannot be read or a line is wrong, or there is no dialogue to draw.
    """
    dialogues: list[DrawnDialogue] = []
    num_left_out = 0
    for path in paths:
        axes = _dominant_axes(path)
        for number, line in enumerate(_text(path).split("\n"), start=1):
            if not line.strip():
                continue
            try:
                found = _dialogue(json.loads(line), default_model=path.stem, axes=axes)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                problem = f"no field {error}" if isinstance(error, KeyError) else str(error)
                raise DialogueFileError(f"{path}, line {number}: {problem}") from error
            num_left_out += found is None
            dialogues += [] if found is None else [found]
    if not dialogues:
        names = ", ".join(map(str, paths))
        raise DialogueFileError(f"{names}: no dialogue to draw ({num_left_out} failed); play some first")
    return DialogueFiles(tuple(dialogues), num_left_out)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DialogueFileError(f"{path}: cannot be read as UTF-8 text ({reason})") from error


def _dominant_axes(path: Path) -> Mapping[str, str]:
    """Read the dominant axes of cases from the metadata in the file's folder or above; empty without any."""
    for folder in path.resolve().parents[:2]:
        if (folder / _METADATA).is_file():
            try:
                cases = json.loads(_text(folder / _METADATA))["sampled_cases"]
                return {case["script_id"]: case["dominant_axis"] for case in cases}
            except (ValueError, KeyError, TypeError) as error:
                raise DialogueFileError(f"{folder / _METADATA}: is no table of cases ({error!r})") from error
    return {}


def _dialogue(record: object, *, default_model: str, axes: Mapping[str, str]) -> DrawnDialogue | None:
    """Read one line; None when there is nothing to draw of it."""
    if not isinstance(record, dict):
        raise ValueError(f"must be a JSON object; got {record!r:.40}")
    fields = cast("dict[str, object]", record)
    if "trajectory" in fields:
        return _published(fields, default_model=default_model, axes=axes)
    if "turns" in fields:
        return _own(fields, default_model=default_model, axes=axes)
    raise ValueError('is no judged dialogue: it has neither "turns" nor "trajectory"')


def _own(
    fields: Mapping[str, object], *, default_model: str, axes: Mapping[str, str]
) -> DrawnDialogue | None:
    """Read a line of dialogues.jsonl (training/dialogue_log.py)."""
    turns = _objects(fields, "turns")
    stop = str(fields["stop"])
    if not turns or stop == "failed":
        return None
    scenario, states = str(fields["scenario"]), [_state(fields, "initial_state")]
    states += [_state(turn, "state") for turn in turns]
    judged = np.array([turn.get("delta") is not None for turn in turns])
    earned = [turn.get("reward") for turn in turns]
    is_paid = any(value is not None for value in earned)
    return DrawnDialogue(
        model=str(fields.get("model") or default_model),
        scenario=scenario,
        states=np.array(states),
        progress=np.array([_own_levels(turn, "progress") for turn in turns], dtype=np.float64),
        regress=np.array([_own_levels(turn, "regress") for turn in turns], dtype=np.float64),
        judged=judged,
        outcome=_OUTCOMES.get(stop, "open"),
        dominant_axis=_axis(fields.get("dominant_axis") or axes.get(scenario), states[0]),
        rewards=np.array([value or 0.0 for value in earned], dtype=np.float64) if is_paid else None,
        talk=tuple((str(turn.get("user", "")), str(turn.get("reply", ""))) for turn in turns),
    )


def _published(
    fields: Mapping[str, object], *, default_model: str, axes: Mapping[str, str]
) -> DrawnDialogue | None:
    """Read a dialogue of a published EMPA run, whose first point is the start."""
    points = _objects(fields, "trajectory")
    if len(points) < 2:
        return None
    scenario = str(fields["script_id"])
    states = [_state(point, "P_t") for point in points]
    reason = str(fields.get("termination_reason", "")).lower()
    outcome: Outcome = "success" if "success" in reason else "failure" if "failure" in reason else "open"
    return DrawnDialogue(
        model=str(fields.get("model") or default_model),
        scenario=scenario,
        states=np.array(states),
        progress=np.array([_published_levels(point, "progress") for point in points[1:]], dtype=np.float64),
        regress=np.array([_published_levels(point, "regress") for point in points[1:]], dtype=np.float64),
        # A turn that moved the state was judged, even where its levels are not recorded.
        judged=np.array([bool(p.get("levels")) for p in points[1:]])
        | np.any(np.diff(states, axis=0), axis=1),
        outcome=outcome,
        dominant_axis=_axis(fields.get("dominant_axis") or axes.get(scenario), states[0]),
        keeps_lost_turns=True,
        talk=_history(fields.get("history")),
    )


def _objects(fields: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    items = fields[name]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f"field {name!r} must be a list of objects")
    return cast("list[Mapping[str, object]]", items)


def _state(fields: Mapping[str, object], name: str) -> tuple[float, float, float]:
    value = fields.get(name)
    if not isinstance(value, list) or len(value) != 3 or not all(_is_number(item) for item in value):
        raise ValueError(f"field {name!r} must be three numbers; got {value!r:.60}")
    return float(value[0]), float(value[1]), float(value[2])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)


def _own_levels(turn: Mapping[str, object], side: str) -> list[int]:
    values = turn.get(side)
    if values is None:
        return [0, 0, 0]
    if not isinstance(values, list) or len(values) != 3 or any(v not in _SIDES[side][1] for v in values):
        raise ValueError(f"field {side!r} must be three levels of {_SIDES[side][1]}; got {values!r:.60}")
    return values


def _published_levels(point: Mapping[str, object], side: str) -> list[int]:
    """Read the levels of a point; a stray or missing one counts as 0, as in the published scores."""
    levels, (name, allowed) = point.get("levels"), _SIDES[side]
    found = levels if isinstance(levels, dict) else {}
    values = [found.get(f"{axis}_{name}_level") for axis in AXES]
    return [value if isinstance(value, int) and value in allowed else 0 for value in values]


def _axis(named: object, start: Sequence[float]) -> str:
    """Give the dominant axis: as named, else the deepest initial deficit."""
    return str(named) if named in AXES else AXES[int(np.argmin(start))]


def _history(messages: object) -> tuple[tuple[str, str], ...]:
    """Pair the messages of a published run: the actor's, and the tested model's reply to it."""
    talk: list[tuple[str, str]] = []
    user = ""
    for message in messages if isinstance(messages, list) else ():
        text = str(message.get("content", ""))
        if message.get("role") == "actor":
            user = text
        elif message.get("role") == "test_model":
            talk.append((user, text))
            user = ""
    return tuple(talk)
