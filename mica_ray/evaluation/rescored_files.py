"""Score files of recorded dialogues, one score per file and model, in any known format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mica_ray.evaluation.comparable import played_as, published, reasons_not_comparable
from mica_ray.evaluation.emotion_score import EmotionScore, score_emotions
from mica_ray.evaluation.endings import EndingCheck, check_endings
from mica_ray.evaluation.rescore import ModelScore, score_cases
from mica_ray.files import JsonFileError, read_json_object
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
    reasons: tuple[str, ...] = ()
    """Why the score cannot be compared with published ones (comparable.py); empty if it can."""


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

    return tuple(replace(item, model=name(item)) for item in found)


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
        _rescored(path, model, members, seed=seed, check=check)
        for model, members in by_model(dialogues).items()
    ]


def _rescored(
    path: Path, model: str, members: Sequence[RecordedDialogue], *, seed: int, check: bool
) -> Rescored:
    form, score = members[0].form, score_cases(members, seed=seed)
    return Rescored(
        model,
        path,
        form,
        score,
        check_endings(members) if check and form == "run" else None,
        recorded_reasons(path, members, score),
    )


def recorded_reasons(path: Path, members: Sequence[RecordedDialogue], score: ModelScore) -> tuple[str, ...]:
    """Return why the score of recorded dialogues cannot be compared with published ones.

    Args:
        path: the file of the dialogues; the settings next to it are read.
        members: the dialogues of one model.
        score: their scores.
    """
    cases, failed = [str(case) for case in score.cases.index], score.num_failed_dialogues
    # The released format does not record how a run was played; it is that of the released runs.
    played = (
        published(cases, num_failed=failed)
        if members[0].form == "run"
        else played_as(_settings_of(path), cases, domain=members[0].domain, num_failed=failed)
    )
    return reasons_not_comparable(played)


def _settings_of(path: Path) -> Mapping[str, object] | None:
    """Return the settings next to a file: of an evaluation folder or of a run; None without any."""
    for name in ("settings.json", "config.json"):
        try:
            return read_json_object(path.parent / name)
        except JsonFileError:
            continue
    return None


def _usable(dialogues: Sequence[RecordedDialogue]) -> list[RecordedDialogue]:
    usable = [dialogue for dialogue in dialogues if dialogue.is_usable]
    if not usable:
        problem = "no dialogue of this file has a judged turn. Use a file with judged dialogues."
        raise error_at(dialogues[0].line, problem)
    return usable
