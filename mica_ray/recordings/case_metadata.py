"""Category, difficulty and dominant axis of EMPA cases, where a `case_metadata.json` lies near the files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mica_ray.recordings.cases import AXES, RecordedCase
from mica_ray.recordings.lines import RecordingError

NAME = "case_metadata.json"
FIELDS = ("category", "difficulty", "dominant_axis")


@dataclass(frozen=True, slots=True)
class CaseMetadata:
    """What a benchmark says of its cases, by case id."""

    by_case: Mapping[str, Mapping[str, str]]

    @classmethod
    def near(cls, path: Path) -> CaseMetadata:
        """Read the metadata in the file's folder or in the one above; empty when there is none.

        Raises:
            RecordingError: there is such a file and it cannot be read.
        """
        folder = path.resolve().parent
        for place in (folder / NAME, folder.parent / NAME):
            if place.is_file():
                return cls(_read(place))
        return cls({})

    def completed(self, case: RecordedCase) -> RecordedCase:
        """Give the case with the strata that its own record leaves open.

        The dominant axis of a case without metadata is that of its deepest initial deficit, as in the
        benchmark's own table (all 30 official cases agree).
        """
        known = self.by_case.get(case.case, {})
        deepest = AXES[int(np.argmin(case.states[0]))]
        return replace(
            case,
            category=case.category or known.get("category", ""),
            difficulty=case.difficulty or known.get("difficulty", ""),
            dominant_axis=case.dominant_axis or known.get("dominant_axis", "") or deepest,
        )


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        cases: Sequence[Mapping[str, object]] = content["sampled_cases"]
        return {
            str(case["script_id"]): {field: str(case[field]) for field in FIELDS if case.get(field)}
            for case in cases
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(
            f"{path}: is no table of cases ({error!r}); it needs sampled_cases, each with script_id"
        ) from error
