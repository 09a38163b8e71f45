"""Recorded judgements as padded arrays, with groups of any size. judge_noise.py adds the judge's error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.checks import at_least
from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.recordings.recorded_turns import RecordedTurns
from mica_ray.rewards import Rewards
from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True, eq=False)
class JudgedPaths:
    """State paths and levels of B dialogues, padded to T turns, K axes."""

    states: np.ndarray
    """[B, T+1, K], points, P_0 first; the last state is repeated after the end."""
    progress: np.ndarray
    """[B, T, K] levels 0..2; 0 where not judged."""
    regress: np.ndarray
    """[B, T, K] levels -2..0; 0 where not judged."""
    valid: np.ndarray
    """[B, T] bool, whether the turn was judged."""
    group: np.ndarray
    """[B] int, unique over all batches."""
    batch: np.ndarray
    """[B] int, equal for dialogues that an estimator sees together."""

    def turns(self, rewards: Rewards, *, error: np.ndarray | None = None) -> TurnRewards:
        """Compute the rewards of the turns, with an error of the judge added to the increments v_t.

        Args:
            rewards: reward of a turn.
            error: [B, T, K], points; None for none. A turn that was not judged keeps its state.
        """
        states = self.states
        if error is not None:
            drift = np.cumsum(np.where(self.valid[..., None], error, 0.0), axis=1)
            states = np.concatenate([states[:, :1], states[:, 1:] + drift], axis=1)
        earned = np.stack([rewards.of_path(path) for path in states])
        return TurnRewards(np.where(self.valid, earned, 0.0), self.valid, self.group, states[:, :-1])


def judged_paths(stored: RecordedTurns) -> JudgedPaths:
    """Return the recorded dialogues as padded arrays."""
    valid = stored.turns.valid
    width = valid.shape[1]

    def padded(levels: np.ndarray) -> np.ndarray:
        return np.pad(np.asarray(levels, np.float64), ((0, width - len(levels)), (0, 0)))

    dialogues: Sequence[RecordedDialogue] = stored.dialogues
    return JudgedPaths(
        states=np.stack(
            [np.pad(one.states, ((0, width - one.num_turns), (0, 0)), mode="edge") for one in dialogues]
        ),
        progress=np.stack([padded(one.progress) for one in dialogues]),
        regress=np.stack([padded(one.regress) for one in dialogues]),
        valid=valid,
        group=stored.turns.group,
        batch=stored.batch,
    )


def regrouped(paths: JudgedPaths, size: int) -> tuple[JudgedPaths, int]:
    """Cut the dialogues of each batch into groups of N, in the order of their recorded groups.

    Groups of N stay as recorded, larger ones are split and smaller ones joined: 30 cases with 4 dialogues
    each become 15 groups of 8. Joined scenarios differ from each other, so such a group has more spread than
    one of N samples of a scenario.

    Args:
        paths: the dialogues.
        size: N, at least 2.

    Returns:
        The dialogues in full groups, and the number of dialogues left out.

    Raises:
        ValueError: the size is below 2, or no batch has so many dialogues.
    """
    at_least(2, size=size)
    kept: list[np.ndarray] = []
    for batch in np.unique(paths.batch):
        rows = np.flatnonzero(paths.batch == batch)
        rows = rows[np.argsort(paths.group[rows], kind="stable")]
        kept.append(rows[: len(rows) // size * size])
    rows = np.concatenate(kept)
    if not rows.size:
        raise ValueError(f"No batch has {size} dialogues. Choose a smaller group size, or name more files.")
    chosen = JudgedPaths(
        states=paths.states[rows],
        progress=paths.progress[rows],
        regress=paths.regress[rows],
        valid=paths.valid[rows],
        group=np.arange(len(rows)) // size,
        batch=paths.batch[rows],
    )
    return chosen, len(paths.group) - len(rows)
