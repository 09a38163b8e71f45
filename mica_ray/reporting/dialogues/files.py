"""Files of judged dialogues, ready to be drawn; dialogues that cannot be drawn are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mica_ray.recordings.dialogue_files import read_state_paths
from mica_ray.recordings.json_fields import error_at
from mica_ray.recordings.recorded_dialogue import RecordedDialogue, RecordingError
from mica_ray.types import AXES


@dataclass(frozen=True, slots=True)
class DialogueFiles:
    """The dialogues of some files."""

    dialogues: tuple[RecordedDialogue, ...]
    num_left_out: int
    """Dialogues with nothing to draw: the simulator failed, or no turn was played."""


def read_dialogue_files(paths: Sequence[Path]) -> DialogueFiles:
    """Read files of judged dialogues.

    Raises:
        RecordingError: a file cannot be read, a line is wrong, or there is no dialogue to draw.
    """
    read = [dialogue for path in paths for dialogue in read_state_paths(path)]
    drawable = tuple(dialogue for dialogue in read if dialogue.is_played)
    num_left_out = len(read) - len(drawable)
    if not drawable:
        names = ", ".join(map(str, paths))
        raise RecordingError(f"{names}: no dialogue to draw ({num_left_out} failed). Play some first.")
    for dialogue in drawable:
        if dialogue.dominant_axis not in AXES:
            raise error_at(dialogue.line, f"dominant_axis must be C, A or P, got {dialogue.dominant_axis!r}.")
    return DialogueFiles(drawable, num_left_out)
