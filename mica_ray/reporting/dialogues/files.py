"""Files of judged dialogues as `DrawnDialogue`s: our logs and the published runs.

The files are read in recordings/cases.py; a dialogue that cannot be drawn is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mica_ray.recordings.case_metadata import CaseMetadata
from mica_ray.recordings.cases import RecordedCase, read_case, recorded_rewards, talk_of
from mica_ray.recordings.lines import Format, RecordingError, format_of, read_lines
from mica_ray.reporting.dialogues.drawn_dialogue import DialogueOutcome, DrawnDialogue
from mica_ray.types import Stop


@dataclass(frozen=True, slots=True)
class DialogueFiles:
    """What was read."""

    dialogues: tuple[DrawnDialogue, ...]
    num_left_out: int
    """Dialogues of which there is nothing to draw: the simulator failed, or no turn was played."""


def read_dialogue_files(paths: Sequence[Path]) -> DialogueFiles:
    """Read files of judged dialogues, each in one of the formats, told by its content.

    A model that the lines do not name is called by its file, `.../gpt-4o.jsonl` "gpt-4o".

    Raises:
        RecordingError: a file cannot be read or a line is wrong, or there is no dialogue to draw.
    """
    dialogues: list[DrawnDialogue] = []
    num_left_out = 0
    for path in paths:
        lines = read_lines(path)
        form = format_of(lines)
        if form == "emotion":
            raise lines[0].error("has one emotion value and no path of needs: there is nothing to draw")
        metadata = CaseMetadata.near(path)
        cases = [metadata.completed(read_case(line, form)) for line in lines]
        played = [case for case in cases if not case.is_failed]
        num_left_out += len(cases) - len(played)
        dialogues += [_drawn(case, form) for case in played]
    if not dialogues:
        names = ", ".join(map(str, paths))
        raise RecordingError(f"{names}: no dialogue to draw ({num_left_out} failed); play some first")
    return DialogueFiles(tuple(dialogues), num_left_out)


def _drawn(case: RecordedCase, form: Format) -> DrawnDialogue:
    try:
        return DrawnDialogue(
            model=case.model or case.line.path.stem,
            scenario=case.case,
            states=case.states,
            progress=case.progress,
            regress=case.regress,
            judged=~case.lost,
            outcome=_outcome(case),
            dominant_axis=case.dominant_axis,
            rewards=recorded_rewards(case.line) if form == "own" else None,
            keeps_lost_turns=form == "run",
            talk=talk_of(case.line),
        )
    except ValueError as error:
        raise case.line.error(str(error)) from error


def _outcome(case: RecordedCase) -> DialogueOutcome:
    if case.is_success:
        return "success"
    failed = case.ending in (Stop.COLLAPSE, Stop.STALL) or "failure" in case.ending.lower()
    return "failure" if failed else "open"
