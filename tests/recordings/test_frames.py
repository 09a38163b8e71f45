"""Recorded dialogues as DataFrames: one row per dialogue, one row per turn."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mica_ray.recordings.dialogue_files import read_dialogues
from mica_ray.recordings.frames import DIALOGUE_COLUMNS, TURN_COLUMNS, dialogues_frame, turns_frame
from tests.evaluation.recorded_files import write
from tests.recordings.stored_files import own_dialogue, run_dialogue


def test_dialogues_frame_has_one_row_per_dialogue(tmp_path: Path) -> None:
    rows = [own_dialogue(4, 3, 1, step=2, sample=1, stop="success"), own_dialogue(4, 5, stop="failed")]
    frame = dialogues_frame(read_dialogues(write(tmp_path / "run-a.jsonl", rows)))
    assert tuple(frame.columns) == DIALOGUE_COLUMNS
    first, second = frame.iloc[0], frame.iloc[1]
    assert (first["model"], first["scenario"], first["step"], first["sample"]) == ("run-a", "s-1", 2, 1)
    # The log records twice the distance that a turn closes: 2 * (4 - 3) + 2 * (3 - 1).
    assert (first["start_distance"], first["end_distance"], first["reward"]) == (4, 1, 6)
    assert list(frame["outcome"]) == ["success", "open"]
    assert list(frame["is_failed"]) == [False, True]
    assert pd.isna(second["sample"])


def test_turns_frame_has_one_row_per_turn_with_its_training_values(tmp_path: Path) -> None:
    path = write(tmp_path / "run-a.jsonl", [own_dialogue(4, 3, 1, lost=[1]), own_dialogue(4, 2)])
    frame = turns_frame(read_dialogues(path))
    assert tuple(frame.columns) == TURN_COLUMNS
    assert list(frame["dialogue"]) == [0, 0, 1]
    assert list(frame["turn"]) == [1, 2, 1]
    assert list(frame["distance"]) == [3, 1, 2]
    assert list(frame["judged"]) == [True, False, True]
    assert list(frame["reward"].fillna(-99)) == [2, -99, 4]  # the second turn has no judgement
    assert list(frame["reply"]) == ["reply 0", "reply 1", "reply 0"]


def test_published_runs_have_rewards_of_the_distance_and_no_training_values(tmp_path: Path) -> None:
    frame = turns_frame(read_dialogues(write(tmp_path / "runs.jsonl", [run_dialogue(4, 3, 1)])))
    assert list(frame["turn_reward"]) == [1, 2]
    for column in ("reward", "return", "advantage", "step"):
        assert list(frame[column].isna()) == [True, True]


def test_no_dialogue_gives_empty_frames_with_their_columns() -> None:
    assert tuple(dialogues_frame([]).columns) == DIALOGUE_COLUMNS
    assert tuple(turns_frame([]).columns) == TURN_COLUMNS
