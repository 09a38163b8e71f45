"""Files of recorded dialogues: the format of a file is recognized by its content, then every line is read.

run_format.py, own_format.py and emotion_format.py read one line each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mica_ray.files import JsonFileError, JsonLine, read_json_lines
from mica_ray.recordings.case_metadata import CaseMetadata
from mica_ray.recordings.emotion_format import read_emotion_dialogue
from mica_ray.recordings.json_fields import error_at
from mica_ray.recordings.own_format import read_own_dialogue
from mica_ray.recordings.recorded_dialogue import Format, RecordedDialogue, RecordingError
from mica_ray.recordings.run_format import read_run_dialogue
from mica_ray.valid_text import valid_text

DIALOGUES = "dialogues.jsonl"
"""Name of the training dialogues in a run folder."""

_REQUIRED: Mapping[Format, tuple[str, ...]] = {
    "run": ("trajectory",),
    "own": ("initial_state", "turns"),
    "emotion": ("history",),
}
"""The list fields by which a format is recognized."""

_READERS = {"run": read_run_dialogue, "own": read_own_dialogue, "emotion": read_emotion_dialogue}


def read_dialogues(path: Path, *, is_growing: bool = False) -> tuple[RecordedDialogue, ...]:
    """Read a file of recorded dialogues, one JSON object per line, all in one format.

    Strata that a record does not name are taken from a `case_metadata.json` near the file
    (case_metadata.py). Any of these files may belong to a run that still writes: a last line that is cut off
    is ignored with a notice.

    Args:
        path: the file.
        is_growing: whether the run may not have written any dialogue yet. A missing or empty file then has no
            dialogues.

    Raises:
        RecordingError: the file cannot be read or is empty, its format is unknown, or a line is wrong.
    """
    try:
        if not is_growing and not path.exists():
            raise JsonFileError(f"{path} cannot be read (No such file or directory).")
        lines = read_json_lines(path, is_growing=True)
    except JsonFileError as error:
        raise RecordingError(str(error)) from error
    if not lines:
        if is_growing:
            return ()
        raise RecordingError(f"{path} contains no dialogue. It must have one JSON object per line.")
    form = _format_of(lines)
    model = valid_text(path.absolute().parent.name if path.name == DIALOGUES else path.stem)
    dialogues = tuple(_READERS[form](line, model=model) for line in lines)
    if form == "emotion":
        return dialogues
    metadata = CaseMetadata.near(path)
    return tuple(metadata.completed(dialogue) for dialogue in dialogues)


def read_state_paths(path: Path) -> tuple[RecordedDialogue, ...]:
    """Read a file of recorded dialogues as `read_dialogues` does, but refuse emotion files.

    Raises:
        RecordingError: as `read_dialogues`, or the file contains emotion values instead of state paths.
    """
    dialogues = read_dialogues(path)
    if dialogues[0].form == "emotion":
        raise error_at(
            dialogues[0].line,
            "has one emotion value per turn and no state path. Use `mica evaluate rescore` for such files.",
        )
    return dialogues


def _format_of(lines: Sequence[JsonLine]) -> Format:
    first = _format(lines[0])
    for line in lines[1:]:
        if (form := _format(line)) != first:
            raise error_at(
                line,
                f"is in format {form}, but line {lines[0].number} is in format {first}. Split the file.",
            )
    return first


def _format(line: JsonLine) -> Format:
    missing: list[str] = []
    for form, required in _REQUIRED.items():
        absent = [field for field in required if not isinstance(line.fields.get(field), list)]
        if not absent:
            return form
        missing.append(f"{form} needs {' and '.join(absent)}")
    found = ", ".join(sorted(line.fields)) or "nothing"
    raise error_at(line, f"is in no known format: {'; '.join(missing)} (each a list), found {found}.")
