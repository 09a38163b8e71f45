"""Files of recorded dialogues as the batch a credit estimator sees, without playing any.

What the lines hold is read in recorded_paths.py and recorded_talk.py; credit_comparison.py compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mica_ray.recordings.cases import RecordedCase, own_turns, read_case, recorded_rewards, talk_of
from mica_ray.recordings.lines import Format, RecordingError, format_of, number_of, read_lines
from mica_ray.rewards import NUM_AXES, Rewards
from mica_ray.types import TurnRewards

DIALOGUES = "dialogues.jsonl"
"""What a run folder calls its training dialogues."""

Grouping = Literal["recorded", "case", "model"]
"""Whose dialogues are compared. recorded: those of one scenario in one step of a run, as trained. case: all
of one case, whoever played it. model: all of one model."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredDialogue:
    """One dialogue as far as credit needs it."""

    model: str
    """As the record names it, else its file or run folder."""
    case: str
    states: np.ndarray
    """[T+1, 3] points, P_0 first."""
    judged: np.ndarray
    """[T] bool."""
    rewards: np.ndarray
    """[T] points, arbitrary where not judged."""
    talk: tuple[tuple[str, str], ...]
    """(user message, reply) of each turn; may be empty."""
    reply_tokens: np.ndarray
    """[T] tokens, NaN where not recorded."""
    step: int | None
    """Of the loop; None in a record of no training."""
    grouping: Grouping
    group: tuple[object, ...]
    """Equal for the dialogues that are compared."""
    batch: tuple[object, ...]
    """Equal for the dialogues that an estimator sees together."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredTurns:
    """Stored dialogues, padded to the longest: B of them, T turns."""

    dialogues: tuple[StoredDialogue, ...]
    turns: TurnRewards
    """`group` is unique over all batches."""
    batch: np.ndarray
    """[B] int, codes from 0: dialogues of one step, or of no training at all."""
    num_failed: int
    """Dialogues left out because a simulator failed or no turn was played."""
    num_unjudged: int
    """Dialogues left out because not one of their turns was judged."""

    @property
    def groupings(self) -> tuple[Grouping, ...]:
        """How groups were made, each way once, in the order of the files."""
        return tuple(dict.fromkeys(dialogue.grouping for dialogue in self.dialogues))

    @property
    def models(self) -> tuple[str, ...]:
        """The models, each once, in the order of the files."""
        return tuple(dict.fromkeys(dialogue.model for dialogue in self.dialogues))

    @property
    def idr(self) -> np.ndarray:
        """Incremental distance rewards [B, T], points, NaN where not judged, whatever reward is credited."""
        incremental = Rewards()
        rows = [incremental.of_path(dialogue.states) for dialogue in self.dialogues]
        return np.where(self.turns.valid, _padded(rows, self.turns.valid.shape[1]), np.nan)

    @property
    def reply_lengths(self) -> tuple[np.ndarray, str]:
        """Lengths of the replies [B, T], NaN where not recorded, and their unit.

        Sampled tokens where every judged turn has them, else characters.
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


def read_stored_turns(
    paths: Sequence[Path], *, rewards: Rewards | None = None, group_by: Grouping | None = None
) -> StoredTurns:
    """Read run folders and files of judged dialogues, each file in one of the formats, told by its content.

    A failed judgement stays masked. Dialogues without a judged turn earn nothing and are counted apart.

    Args:
        paths: run folders (their training dialogues), our own dialogues, published EMPA runs.
        rewards: what a turn earns; None takes what our own record says, and IDR where it says nothing.
        group_by: None groups our own dialogues as recorded, and published runs by case.

    Raises:
        RecordingError: a file cannot be read or a line is wrong, a file is given twice, or no turn is judged.
    """
    found: list[StoredDialogue] = []
    num_failed = num_unjudged = 0
    seen: set[Path] = set()
    for path in map(_dialogue_file, paths):
        if path.resolve() in seen:
            raise RecordingError(f"{path}: is given twice; name each file once")
        seen.add(path.resolve())
        lines = read_lines(path)
        form = format_of(lines)
        if form == "emotion":
            raise lines[0].error("has one emotion value and no path of needs: no turn of it earns a reward")
        for line in lines:
            case = read_case(line, form)
            num_failed += case.is_failed
            num_unjudged += not case.is_failed and bool(case.lost.all())
            if not case.is_failed and not case.lost.all():
                found.append(_stored(case, form, rewards=rewards, group_by=group_by))
    if not found:
        raise RecordingError(
            f"{', '.join(map(str, paths))}: no judged turn ({num_failed} dialogues failed, {num_unjudged} "
            "were never judged); give dialogues with judgements"
        )
    return _batched(found, num_failed=num_failed, num_unjudged=num_unjudged)


def _dialogue_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    if not (path / DIALOGUES).is_file():
        raise RecordingError(f"{path}: holds no {DIALOGUES}; give a run folder or a file of dialogues")
    return path / DIALOGUES


def _stored(
    case: RecordedCase, form: Format, *, rewards: Rewards | None, group_by: Grouping | None
) -> StoredDialogue:
    line, is_own = case.line, form == "own"
    step, group = (_whole(line.fields.get(name)) for name in ("step", "group"))
    grouping = group_by or ("recorded" if is_own and group is not None else "case")
    if grouping == "recorded" and group is None:
        raise line.error("records no group; choose --group-by case or model")
    model = case.model or (line.path.parent.name if line.path.name == DIALOGUES else line.path.stem)
    recorded = recorded_rewards(line) if is_own and rewards is None else None
    earned = (rewards or Rewards()).of_path(case.states) if recorded is None else recorded
    of_run = (str(line.path), step) if grouping == "recorded" else ("whole",)
    keys: dict[Grouping, tuple[object, ...]] = {
        "recorded": (*of_run, group),
        "case": ("case", case.case),
        "model": ("model", model),
    }
    return StoredDialogue(
        model=model,
        case=case.case,
        states=case.states,
        judged=~case.lost,
        rewards=earned,
        talk=talk_of(line),
        reply_tokens=_reply_tokens(case, is_own=is_own),
        step=step,
        grouping=grouping,
        group=keys[grouping],
        batch=of_run,
    )


def _reply_tokens(case: RecordedCase, *, is_own: bool) -> np.ndarray:
    if not is_own:
        return np.full(case.num_turns, np.nan)
    counts = [number_of(turn.get("reply_tokens")) for turn in own_turns(case.line)]
    return np.array([np.nan if count is None else count for count in counts])


def _whole(value: object) -> int | None:
    number = number_of(value)
    return None if number is None else int(number)


def _batched(found: Sequence[StoredDialogue], *, num_failed: int, num_unjudged: int) -> StoredTurns:
    width = max(len(dialogue.judged) for dialogue in found)
    states = np.zeros((len(found), width, NUM_AXES))
    for row, dialogue in enumerate(found):
        states[row, : len(dialogue.judged)] = dialogue.states[:-1]
    return StoredTurns(
        dialogues=tuple(found),
        turns=TurnRewards(
            rewards=np.nan_to_num(_padded([dialogue.rewards for dialogue in found], width)),
            valid=_padded([dialogue.judged for dialogue in found], width) == 1,
            group=_codes([dialogue.group for dialogue in found]),
            states=states,
        ),
        batch=_codes([dialogue.batch for dialogue in found]),
        num_failed=num_failed,
        num_unjudged=num_unjudged,
    )


def _padded(rows: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Lay out rows of unequal lengths as [B, width] float64, NaN behind their ends."""
    laid = np.full((len(rows), width), np.nan)
    for number, row in enumerate(rows):
        laid[number, : len(row)] = row[:width]
    return laid


def _codes(keys: Sequence[tuple[object, ...]]) -> np.ndarray:
    """Number equal keys equally, from 0 in the order in which they appear."""
    number = {key: code for code, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], dtype=np.int64)
