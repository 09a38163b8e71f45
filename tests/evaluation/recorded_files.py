"""Small files of recorded dialogues in the three formats, with paths that can be scored by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

Fields = dict[str, object]


def level_fields(*, progress: Sequence[int] = (0, 0, 0), regress: Sequence[int] = (0, 0, 0)) -> Fields:
    levels = zip("CAP", progress, regress, strict=True)
    return {
        key: value
        for axis, up, down in levels
        for key, value in ((f"{axis}_Prog_level", up), (f"{axis}_Neg_level", down))
    }


def run_case(case: str = "script_001", **changes: object) -> Fields:
    """The two-turn path of test_epm_q.py, EPM-Q 58.7612: C +3 by level 2, then A -2 by level -1."""
    return {
        "model": "helper-1",
        "script_id": case,
        "total_turns": 2,
        "termination_reason": "Reached max turns (2), timeout",
        "P_0": [-5, 0, 0],
        "trajectory": [
            {"turn": 0, "P_t": [-5, 0, 0], "v_t": [0, 0, 0], "levels": {}},
            {"turn": 1, "P_t": [-2, 0, 0], "v_t": [3, 0, 0], "levels": level_fields(progress=(2, 0, 0))},
            {"turn": 2, "P_t": [-2, -2, 0], "v_t": [0, -2, 0], "levels": level_fields(regress=(0, -1, 0))},
        ],
        **changes,
    }


RUN_SCORE = 58.7612
"""EPM-Q of `run_case`, computed by hand in test_epm_q.py."""


def points_of(case: Fields) -> list[Fields]:
    """The trajectory of a case, for changes in place."""
    points = case["trajectory"]
    assert isinstance(points, list)
    return points


def write(path: Path, cases: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(case, ensure_ascii=False) + "\n" for case in cases), encoding="utf-8")
    return path


def emotion_case(*emotions: float, case: str = "a", **changes: object) -> Fields:
    history: list[Fields] = []
    for emotion in emotions:
        history += [
            {"role": "user", "content": "u", "emotion-point": emotion},
            {"role": "assistant", "content": "r"},
        ]
    return {"id": case, "emo_point": emotions[-1], "task": "be heard", "history": history, **changes}
