"""Files of recorded dialogues as the batch that a credit estimator sees; no dialogue is played.

dialogue_files.py reads the files; credit_study/comparison.py compares estimators on the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mica_ray.recordings.dialogue_files import DIALOGUES, read_state_paths
from mica_ray.recordings.json_fields import error_at
from mica_ray.recordings.recorded_dialogue import RecordedDialogue, RecordingError
from mica_ray.rewards import NUM_AXES, Rewards
from mica_ray.types import TurnRewards

Grouping = Literal["recorded", "case", "model"]
"""Which dialogues are compared. recorded: those of one scenario in one step of a run, as trained. case: all
of one case, from any model. model: all of one model."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordedTurns:
    """Recorded dialogues padded to the longest: B dialogues, T turns."""

    dialogues: tuple[RecordedDialogue, ...]
    turns: TurnRewards
    """`group` is unique over all batches."""
    batch: np.ndarray
    """[B] int, codes from 0; equal for dialogues of one training step, and for all outside training."""
    groupings: tuple[Grouping, ...]
    """How groups were formed, each way once, in the order of the files."""
    num_failed: int
    """Dialogues left out because a simulator failed or no turn was played."""
    num_unjudged: int
    """Dialogues left out because none of their turns was judged."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models, each once, in the order of the files."""
        return tuple(dict.fromkeys(dialogue.model for dialogue in self.dialogues))

    @property
    def idr(self) -> np.ndarray:
        """Incremental distance rewards [B, T], points, NaN where not judged, whichever reward is credited."""
        incremental = Rewards()
        rows = [incremental.of_path(dialogue.states) for dialogue in self.dialogues]
        return np.where(self.turns.valid, _padded(rows, self.turns.valid.shape[1]), np.nan)

    @property
    def reply_lengths(self) -> tuple[np.ndarray, str]:
        """Lengths of the replies [B, T], NaN where not recorded, and their unit.

        Sampled tokens where every judged turn has them, characters otherwise.
        """
        width = self.turns.valid.shape[1]
        tokens = _padded([dialogue.reply_tokens for dialogue in self.dialogues], width)
        if np.isfinite(tokens[self.turns.valid]).all():
            return tokens, "tokens"
        characters = [
            np.array([len(reply) for _, reply in dialogue.talk], dtype=np.float64)
            for dialogue in self.dialogues
        ]
        return _padded(characters, width), "characters"


def read_recorded_turns(
    paths: Sequence[Path], *, rewards: Rewards | None = None, group_by: Grouping | None = None
) -> RecordedTurns:
    """Read run folders and files of judged dialogues.

    Failed judgements stay masked. Dialogues without a judged turn are counted and left out.

    Args:
        paths: run folders (their training dialogues), files of our own dialogues, published EMPA runs.
        rewards: reward of a turn; None uses the recorded reward, and IDR where none is recorded.
        group_by: None groups our own dialogues as recorded, and published runs by case.

    Raises:
        RecordingError: a file cannot be read, is named twice or has a wrong line, or no turn is judged.
    """
    read: list[RecordedDialogue] = []
    seen: set[Path] = set()
    for path in map(_dialogue_file, paths):
        if path.resolve() in seen:
            raise RecordingError(f"{path} is named twice. Name each file once.")
        seen.add(path.resolve())
        read += read_state_paths(path)
    usable = [dialogue for dialogue in read if dialogue.is_usable]
    num_failed = sum(not dialogue.is_played for dialogue in read)
    num_unjudged = len(read) - len(usable) - num_failed
    if not usable:
        raise RecordingError(
            f"{', '.join(map(str, paths))}: no judged turn ({num_failed} dialogues failed, {num_unjudged} "
            "have no valid judgement). Name files with judged dialogues."
        )
    groupings: list[Grouping] = [_grouping(dialogue, group_by) for dialogue in usable]
    members = list(zip(usable, groupings, strict=True))
    return RecordedTurns(
        dialogues=tuple(usable),
        turns=_turn_rewards(usable, rewards, group=_codes([_group(*member) for member in members])),
        batch=_codes([_batch(*member) for member in members]),
        groupings=tuple(dict.fromkeys(groupings)),
        num_failed=num_failed,
        num_unjudged=num_unjudged,
    )


def _dialogue_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    if not (path / DIALOGUES).is_file():
        raise RecordingError(f"{path} contains no {DIALOGUES}. Name a run folder or a file of dialogues.")
    return path / DIALOGUES


def _grouping(dialogue: RecordedDialogue, group_by: Grouping | None) -> Grouping:
    has_group = dialogue.form == "own" and dialogue.group is not None
    grouping = group_by or ("recorded" if has_group else "case")
    if grouping == "recorded" and dialogue.group is None:
        raise error_at(dialogue.line, "records no group. Use --group-by case or --group-by model.")
    return grouping


def _batch(dialogue: RecordedDialogue, grouping: Grouping) -> tuple[object, ...]:
    """Return a key that is equal for dialogues that an estimator sees together."""
    return (str(dialogue.line.path), dialogue.step) if grouping == "recorded" else ("whole",)


def _group(dialogue: RecordedDialogue, grouping: Grouping) -> tuple[object, ...]:
    """Return a key that is equal for dialogues that are compared."""
    if grouping == "recorded":
        return (*_batch(dialogue, grouping), dialogue.group)
    return (grouping, dialogue.scenario if grouping == "case" else dialogue.model)


def _turn_rewards(
    dialogues: Sequence[RecordedDialogue], rewards: Rewards | None, *, group: np.ndarray
) -> TurnRewards:
    width = max(dialogue.num_turns for dialogue in dialogues)
    states = np.zeros((len(dialogues), width, NUM_AXES))
    for row, dialogue in enumerate(dialogues):
        states[row, : dialogue.num_turns] = dialogue.states[:-1]
    earned = [
        dialogue.turn_rewards if rewards is None else rewards.of_path(dialogue.states)
        for dialogue in dialogues
    ]
    return TurnRewards(
        rewards=np.nan_to_num(_padded(earned, width)),
        valid=_padded([dialogue.judged for dialogue in dialogues], width) == 1,
        group=group,
        states=states,
    )


def _padded(rows: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Return rows of different lengths as [B, width] float64, NaN after their ends."""
    table = np.full((len(rows), width), np.nan)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row[:width]
    return table


def _codes(keys: Sequence[tuple[object, ...]]) -> np.ndarray:
    """Return an integer for every key: equal for equal keys, from 0 in order of appearance."""
    number = {key: code for code, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], dtype=np.int64)
