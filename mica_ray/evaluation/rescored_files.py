"""Score files of recorded dialogues, one score per file and model, in any known format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mica_ray.evaluation.emotion_score import EmotionScore, score_emotions
from mica_ray.evaluation.endings import EndingCheck, check_endings
from mica_ray.evaluation.rescore import ModelScore, score_cases
from mica_ray.recordings.dialogue_files import read_dialogues
from mica_ray.recordings.json_fields import error_at
from mica_ray.recordings.recorded_dialogue import Format, RecordedDialogue, by_model


@dataclass(frozen=True, slots=True)
class Rescored:
    """One model of one file."""

    model: str
    """Its name; where several files share it, followed by the file in parentheses."""
    path: Path
    form: Format
    score: ModelScore | EmotionScore
    endings: EndingCheck | None = None
    """Only on request, and only for published runs: other files do not record the rules they ended by."""


def rescore(paths: Sequence[Path], *, seed: int, check: bool = False) -> tuple[Rescored, ...]:
    """Score files of recorded dialogues.

    Args:
        paths: files in any format of recordings/dialogue_files.py.
        seed: of the bootstrap.
        check: whether to replay the endings of published runs as well.

    Raises:
        RecordingError: a file cannot be read, or a line is wrong.
    """
    found = [item for path in paths for item in _rescore_file(path, seed=seed, check=check)]
    models = Counter(item.model for item in found)
    stems = Counter((item.model, item.path.stem) for item in found)

    def name(item: Rescored) -> str:
        if models[item.model] == 1:
            return item.model
        place = item.path.stem if stems[item.model, item.path.stem] == 1 else str(item.path)
        return f"{item.model} ({place})"

    return tuple(Rescored(name(item), item.path, item.form, item.score, item.endings) for item in found)


def _rescore_file(path: Path, *, seed: int, check: bool) -> list[Rescored]:
    dialogues = read_dialogues(path)
    form = dialogues[0].form
    if all(dialogue.emotions is not None for dialogue in dialogues):
        groups = by_model(dialogues if form == "emotion" else _usable(dialogues))
        return [
            Rescored(model, path, form, score_emotions(members, seed=seed))
            for model, members in groups.items()
        ]
    return [
        Rescored(
            model,
            path,
            form,
            score_cases(members, seed=seed),
            check_endings(members) if check and form == "run" else None,
        )
        for model, members in by_model(dialogues).items()
    ]


def _usable(dialogues: Sequence[RecordedDialogue]) -> list[RecordedDialogue]:
    usable = [dialogue for dialogue in dialogues if dialogue.is_usable]
    if not usable:
        problem = "no dialogue of this file has a judged turn. Use a file with judged dialogues."
        raise error_at(dialogues[0].line, problem)
    return usable
