"""Files of dialogues become the batch of an estimator: groups, masks and rewards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mica_ray.recordings.recorded_dialogue import RecordingError
from mica_ray.recordings.recorded_turns import read_recorded_turns
from mica_ray.rewards import Rewards
from tests.evaluation.recorded_files import emotion_case, write
from tests.recordings.stored_files import own_dialogue, run_dialogue


def test_our_own_dialogues_keep_their_groups_and_steps(tmp_path: Path) -> None:
    rows = [own_dialogue(4, 3), own_dialogue(4, 1, 0), own_dialogue(4, 2, step=1)]
    stored = read_recorded_turns([write(tmp_path / "dialogues.jsonl", rows)])
    np.testing.assert_array_equal(stored.turns.group, [0, 0, 1])
    np.testing.assert_array_equal(stored.batch, [0, 0, 1])
    assert stored.groupings == ("recorded",)
    assert stored.models == (tmp_path.name,)  # named after the run folder
    # As recorded, which is twice the distance closed: 2(4-3), 2(4-1) and 2(1-0), 2(4-2).
    np.testing.assert_allclose(stored.turns.rewards, [[2, 0], [6, 2], [4, 0]])
    np.testing.assert_allclose(stored.idr, [[1, np.nan], [3, 1], [2, np.nan]])
    lengths, unit = stored.reply_lengths
    assert unit == "tokens"
    np.testing.assert_allclose(lengths, [[10, np.nan], [10, 11], [10, np.nan]])


def test_run_folder_is_its_dialogues(tmp_path: Path) -> None:
    write(tmp_path / "dialogues.jsonl", [own_dialogue(4, 3)])
    assert len(read_recorded_turns([tmp_path]).dialogues) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match=r"empty contains no dialogues\.jsonl"):
        read_recorded_turns([tmp_path / "empty"])


def test_failed_judgement_stays_masked(tmp_path: Path) -> None:
    stored = read_recorded_turns([write(tmp_path / "d.jsonl", [own_dialogue(4, 4, 1, lost=[0])])])
    np.testing.assert_array_equal(stored.turns.valid, [[False, True]])
    np.testing.assert_allclose(stored.turns.rewards[stored.turns.valid], [6])
    assert np.isnan(stored.idr[0, 0])


def test_reward_asked_for_takes_the_place_of_the_recorded_one(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [own_dialogue(4, 3, 1)])
    np.testing.assert_allclose(read_recorded_turns([path], rewards=Rewards()).turns.rewards, [[1, 2]])
    absolute = read_recorded_turns([path], rewards=Rewards(kind="adr"))
    np.testing.assert_allclose(absolute.turns.rewards, [[-3, -1]])


def test_published_runs_are_grouped_by_case_across_models(tmp_path: Path) -> None:
    paths = [
        write(
            tmp_path / f"{model}.jsonl", [run_dialogue(4, 3, model=model, case=case) for case in ("a", "b")]
        )
        for model in ("one", "two")
    ]
    stored = read_recorded_turns(paths)
    np.testing.assert_array_equal(stored.turns.group, [0, 1, 0, 1])
    np.testing.assert_array_equal(stored.batch, [0, 0, 0, 0])
    assert (stored.groupings, stored.models) == (("case",), ("one", "two"))
    np.testing.assert_array_equal(read_recorded_turns(paths, group_by="model").turns.group, [0, 0, 1, 1])
    with pytest.raises(RecordingError, match=r"line 1: records no group. Use --group-by"):
        read_recorded_turns(paths, group_by="recorded")


def test_replies_without_token_counts_are_measured_in_characters(tmp_path: Path) -> None:
    lengths, unit = read_recorded_turns([write(tmp_path / "r.jsonl", [run_dialogue(4, 3, 2)])]).reply_lengths
    assert unit == "characters"
    np.testing.assert_allclose(lengths, [[1, 2]])


def test_dialogues_that_nobody_judged_are_counted_and_left_out(tmp_path: Path) -> None:
    rows = [own_dialogue(4, 3), own_dialogue(4, 4, lost=[0]), own_dialogue(4, 3, stop="failed")]
    stored = read_recorded_turns([write(tmp_path / "d.jsonl", rows)])
    assert (len(stored.dialogues), stored.num_failed, stored.num_unjudged) == (1, 1, 1)
    with pytest.raises(RecordingError, match=r"no judged turn \(1 dialogues failed, 1 have no valid"):
        read_recorded_turns([write(tmp_path / "e.jsonl", rows[1:])])


def test_files_without_paths_and_files_given_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="one emotion value per turn and no state path"):
        read_recorded_turns([write(tmp_path / "e.jsonl", [emotion_case(30, 40)])])
    path = write(tmp_path / "d.jsonl", [own_dialogue(4, 3)])
    with pytest.raises(RecordingError, match="named twice"):
        read_recorded_turns([path, path])
