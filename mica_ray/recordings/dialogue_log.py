"""Every training dialogue as one JSON line, for `pandas.read_json(path, lines=True)`; see `dialogue_row`.

dialogue_files.py reads the lines back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mica_ray.dialogue.answer_counts import count_failures
from mica_ray.files import StepLog
from mica_ray.recordings.transcript import transcript_head, transcript_turn
from mica_ray.types import Trajectory, Turn, TurnRewards


class DialogueLog:
    """The dialogues of a run, in order of step, group and sample."""

    def __init__(self, path: Path, *, first_step: int = 0) -> None:
        """Open the file.

        Dialogues of `first_step` and later steps are dropped, because those steps are played again.
        """
        self._log = StepLog(path, first_step=first_step)
        self.path = path
        self.num_failures = sum(row["failures"] for row in self._log.rows())
        """Number of failures in the dialogues of the file (dialogue/answer_counts.py)."""

    def append(
        self,
        step: int,
        trajectories: Sequence[Trajectory],
        *,
        turns: TurnRewards,
        returns: np.ndarray,
        advantages: np.ndarray,
    ) -> None:
        """Write the dialogues of a step.

        Args:
            step: step of the training loop.
            trajectories: B trajectories, including failed ones.
            turns: rewards [B, T] and which of them count.
            returns: [B, T], reward units.
            advantages: [B, T], dimensionless.
        """
        self.num_failures += count_failures(trajectories)
        self._log.append(
            step,
            (
                dialogue_row(trajectory, turns=turns, returns=returns, advantages=advantages, index=index)
                for index, trajectory in enumerate(trajectories)
            ),
        )


def dialogue_row(
    trajectory: Trajectory, *, turns: TurnRewards, returns: np.ndarray, advantages: np.ndarray, index: int
) -> dict[str, object]:
    """Return the JSON form of one dialogue (transcript.py) with reward, return and advantage of every turn.

    Args:
        trajectory: the dialogue.
        turns: rewards [B, T] of its batch.
        returns: [B, T], reward units.
        advantages: [B, T], dimensionless.
        index: the dialogue's row in those arrays.
    """
    return {
        **transcript_head(trajectory),
        "turns": [_turn_row(turn, turns, returns, advantages, index) for turn in trajectory.turns],
    }


def _turn_row(
    turn: Turn, turns: TurnRewards, returns: np.ndarray, advantages: np.ndarray, index: int
) -> dict[str, object]:
    """Return one turn; the numbers of a turn whose judgement failed are null, never 0."""
    is_valid = bool(turns.valid[index, turn.index])
    return {
        **transcript_turn(turn),
        "reward": float(turns.rewards[index, turn.index]) if is_valid else None,
        "return": float(returns[index, turn.index]) if is_valid else None,
        "advantage": float(advantages[index, turn.index]) if is_valid else None,
    }
