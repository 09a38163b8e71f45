"""Recorded dialogues as pandas DataFrames: one row per dialogue, or one row per turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.types import AXES

if TYPE_CHECKING:
    import pandas as pd

DIALOGUE_COLUMNS = (
    "model", "scenario", "domain", "category", "difficulty", "dominant_axis", "step", "group", "sample",
    "outcome", "ending", "is_success", "is_failed", "num_turns", "num_judged", "start_distance",
    "end_distance", "reward", "final_emotion",
)  # fmt: skip
"""Columns of `dialogues_frame`: step, group and sample are missing outside training; num_judged counts valid
judgements; distances are D_0 and D_T in points; reward is the sum of `turn_rewards`; final_emotion is NaN
outside the SAGE world. The other columns are fields of `RecordedDialogue`."""

TURN_COLUMNS = (
    "dialogue", "model", "scenario", "step", "group", "sample", "turn", "judged", "C", "A", "P", "distance",
    "C_progress", "A_progress", "P_progress", "C_regress", "A_regress", "P_regress", "turn_reward", "reward",
    "return", "advantage", "reply_tokens", "user", "reply",
)  # fmt: skip
"""Columns of `turns_frame`: dialogue is the row in `dialogues_frame`; turn counts from 1; C, A, P and
distance are the state after the turn, in points; levels are 0 where not judged; turn_reward is
`turn_rewards`; reward, return and advantage are those of training, NaN where not recorded; user and reply are
empty without text."""


def dialogues_frame(dialogues: Sequence[RecordedDialogue]) -> pd.DataFrame:
    """Return one row per dialogue, in the given order, with the columns `DIALOGUE_COLUMNS`."""
    import pandas as pd

    frame = pd.DataFrame(map(_dialogue_row, dialogues), columns=pd.Index(DIALOGUE_COLUMNS))
    whole_numbers = dict.fromkeys(("step", "group", "sample"), "Int64")
    return frame.astype({**whole_numbers, "is_success": "boolean"})


def turns_frame(dialogues: Sequence[RecordedDialogue]) -> pd.DataFrame:
    """Return one row per turn, in the order of the dialogues, with the columns `TURN_COLUMNS`."""
    import pandas as pd

    rows = [row for number, one in enumerate(dialogues) for row in _turn_rows(number, one)]
    frame = pd.DataFrame(rows, columns=pd.Index(TURN_COLUMNS))
    return frame.astype(dict.fromkeys(("step", "group", "sample"), "Int64"))


def _dialogue_row(dialogue: RecordedDialogue) -> dict[str, Any]:
    computed = {
        "num_judged": int(dialogue.judged.sum()),
        "start_distance": float(dialogue.distances[0]),
        "end_distance": float(dialogue.distances[-1]),
        "reward": float(np.nansum(dialogue.turn_rewards)),
    }
    fields = [name for name in DIALOGUE_COLUMNS if name not in computed]
    return {name: getattr(dialogue, name) for name in fields} | computed


def _turn_rows(number: int, dialogue: RecordedDialogue) -> list[dict[str, Any]]:
    columns: dict[str, Any] = {
        "judged": dialogue.judged,
        "distance": dialogue.distances[1:],
        "turn_reward": dialogue.turn_rewards,
        "reward": dialogue.rewards,
        "return": dialogue.returns,
        "advantage": dialogue.advantages,
        "reply_tokens": dialogue.reply_tokens,
    }
    for index, axis in enumerate(AXES):
        columns[axis] = dialogue.states[1:, index]
        columns[f"{axis}_progress"] = dialogue.progress[:, index]
        columns[f"{axis}_regress"] = dialogue.regress[:, index]
    fields = {name: getattr(dialogue, name) for name in ("model", "scenario", "step", "group", "sample")}
    talk = dialogue.talk if len(dialogue.talk) == dialogue.num_turns else (("", ""),) * dialogue.num_turns
    return [
        {
            "dialogue": number,
            "turn": turn + 1,
            "user": talk[turn][0],
            "reply": talk[turn][1],
            **fields,
            **{name: values[turn] for name, values in columns.items()},
        }
        for turn in range(dialogue.num_turns)
    ]
