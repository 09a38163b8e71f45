"""From files of recorded dialogues to one score per model, whatever format each file is in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mica_ray.domains.sage import SAGE
from mica_ray.evaluation.endings import EndingCheck, check_endings
from mica_ray.evaluation.rescore import ModelScore, score_cases
from mica_ray.recordings.case_metadata import CaseMetadata
from mica_ray.recordings.cases import read_case, read_own_case
from mica_ray.recordings.emotions import (
    EmotionScore,
    RecordedEmotion,
    emotions_of,
    read_emotion_case,
    score_emotions,
)
from mica_ray.recordings.lines import Format, Line, format_of, read_lines


@dataclass(frozen=True, slots=True)
class Rescored:
    """One model of one file."""

    model: str
    """As the record names it, else the file's stem; with the file behind it where several files share it."""
    path: Path
    form: Format
    score: ModelScore | EmotionScore
    endings: EndingCheck | None = None
    """Only where asked for, and only of published runs: other files do not say by which rules they ended."""


def rescore(paths: Sequence[Path], *, seed: int, check: bool = False) -> tuple[Rescored, ...]:
    """Score files of recorded dialogues: one result per file and model.

    Args:
        paths: each in one of the formats of recorded_lines.py, told by its content.
        seed: of the bootstrap.
        check: replay the endings of published runs too.

    Raises:
        RecordingError: a file cannot be read, or a line is not of its format.
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
    lines = read_lines(path)
    form = format_of(lines)
    is_own_emotion = form == "own" and all(line.text("domain") == SAGE.name for line in lines)
    if form == "emotion" or is_own_emotion:
        emotions = _own_emotions(lines) if is_own_emotion else [read_emotion_case(line) for line in lines]
        names = dict.fromkeys(record.model for record in emotions)
        return [
            Rescored(
                name or path.stem,
                path,
                form,
                score_emotions([record for record in emotions if record.model == name], seed=seed),
            )
            for name in names
        ]
    metadata = CaseMetadata.near(path)
    cases = [metadata.completed(read_case(line, form)) for line in lines]
    results: list[Rescored] = []
    for name in dict.fromkeys(case.model for case in cases):
        members = [case for case in cases if case.model == name]
        endings = check_endings(members) if check and form == "run" else None
        score = score_cases(members, form, seed=seed)
        results.append(Rescored(name or path.stem, path, form, score, endings))
    return results


def _own_emotions(lines: Sequence[Line]) -> list[RecordedEmotion]:
    """Read our own dialogues in the SAGE world; one that failed says nothing about the policy."""
    cases = [read_own_case(line) for line in lines]
    kept = [emotions_of(case) for case in cases if not case.is_failed and not case.lost.all()]
    if not kept:
        raise lines[0].error("no dialogue of the file was finished and judged")
    return kept
