"""Category, difficulty and dominant axis of EMPA cases, from a `case_metadata.json` near the dialogues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mica_ray.files import JsonFileError, read_json_object
from mica_ray.recordings.recorded_dialogue import RecordedDialogue, RecordingError
from mica_ray.types import AXES

NAME = "case_metadata.json"
FIELDS = ("category", "difficulty", "dominant_axis")


@dataclass(frozen=True, slots=True)
class CaseMetadata:
    """The strata of a benchmark's cases, by case id."""

    by_case: Mapping[str, Mapping[str, str]]

    @classmethod
    def near(cls, path: Path) -> CaseMetadata:
        """Read the metadata in the file's folder or its parent folder; empty when there is none.

        Raises:
            RecordingError: such a file exists and cannot be read.
        """
        folder = path.resolve().parent
        for place in (folder / NAME, folder.parent / NAME):
            if place.is_file():
                return cls(_read(place))
        return cls({})

    def completed(self, dialogue: RecordedDialogue) -> RecordedDialogue:
        """Return the dialogue with the strata filled in that its own record does not name.

        The dominant axis of a case without metadata is that of its deepest initial deficit, as in the
        benchmark's own table (all 30 official cases agree).
        """
        known = self.by_case.get(dialogue.scenario, {})
        deepest = AXES[int(np.argmin(dialogue.states[0]))]
        return replace(
            dialogue,
            category=dialogue.category or known.get("category", ""),
            difficulty=dialogue.difficulty or known.get("difficulty", ""),
            dominant_axis=dialogue.dominant_axis or known.get("dominant_axis", "") or deepest,
        )


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        cases: Sequence[Mapping[str, object]] = read_json_object(path)["sampled_cases"]
        return {
            str(case["script_id"]): {field: str(case[field]) for field in FIELDS if case.get(field)}
            for case in cases
        }
    except JsonFileError as error:
        raise RecordingError(str(error)) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordingError(
            f"{path} is not a table of cases ({error!r}). It needs sampled_cases, each with a script_id."
        ) from error
