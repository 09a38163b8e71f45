"""One judged dialogue as the figures read it: numbers and talk, whatever file or run they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mica_ray.credit.returns import discounted_returns
from mica_ray.dialogue.progress import energy_direction
from mica_ray.evaluation.epm_q import EpmScore, score_path
from mica_ray.rewards import zone_distance

AXES = ("C", "A", "P")
"""Axis keys in the order of every state vector."""
AXIS_NAMES = {"C": "cognitive", "A": "affective", "P": "proactive"}

DialogueOutcome = Literal["success", "failure", "open"]
"""open: a limit or the Director ended the dialogue, neither success nor failure."""


@dataclass(frozen=True, slots=True, eq=False)
class DrawnDialogue:
    """What is drawn of one dialogue. Dialogues that a failed simulator ended are not drawn at all."""

    model: str
    """Whose replies they are; figures compare models by this name."""
    scenario: str
    states: np.ndarray
    """[T+1, 3] points (C, A, P), P_0 first; a failed judgement leaves the state where it was."""
    progress: np.ndarray
    """[T, 3] levels 0..2; 0 where not judged."""
    regress: np.ndarray
    """[T, 3] levels -2..0; 0 where not judged."""
    judged: np.ndarray
    """[T] bool, the turn's judgement holds."""
    outcome: DialogueOutcome
    dominant_axis: str
    """"C", "A" or "P"."""
    rewards: np.ndarray | None = None
    """[T] points, arbitrary where not judged; None: the incremental distance reward of the states."""
    keeps_lost_turns: bool = False
    """Whether EPM-Q counts a turn without a judgement as one that moves nothing, as published scores do."""
    talk: tuple[tuple[str, str], ...] = ()
    """(user message, reply) of each turn, for the report's text; may be empty."""

    def __post_init__(self) -> None:
        """Refuse shapes that disagree and names that mean nothing."""
        turns = len(self.states) - 1
        if self.states.ndim != 2 or self.states.shape[1] != 3 or turns < 1:
            raise ValueError(f"states must be [T+1, 3] with T >= 1; got {self.states.shape}")
        for name, expected in (("progress", (turns, 3)), ("regress", (turns, 3)), ("judged", (turns,))):
            shape = getattr(self, name).shape
            if shape != expected:
                raise ValueError(f"{name} must be {list(expected)} like the states; got {list(shape)}")
        if self.rewards is not None and self.rewards.shape != (turns,):
            raise ValueError(f"rewards must be [{turns}] like the states; got {list(self.rewards.shape)}")
        if not np.isfinite(self.states).all():
            raise ValueError("states must be finite numbers")
        if self.outcome not in get_args(DialogueOutcome):
            raise ValueError(
                f"outcome must be one of {', '.join(get_args(DialogueOutcome))}; got {self.outcome!r}"
            )
        if self.dominant_axis not in AXES:
            raise ValueError(f"dominant_axis must be C, A or P; got {self.dominant_axis!r}")

    @property
    def distances(self) -> np.ndarray:
        """D_t [T+1], points: the zone distance of every state."""
        return zone_distance(self.states)

    @property
    def turn_rewards(self) -> np.ndarray:
        """r_t [T], points, NaN where not judged."""
        rewards = -np.diff(self.distances) if self.rewards is None else self.rewards
        return np.where(self.judged, rewards, np.nan)

    def returns(self, gamma: float) -> np.ndarray:
        """Give G_t = sum_{s >= t} gamma^(s-t) r_s [T], points, NaN where not judged."""
        rewards = np.nan_to_num(self.turn_rewards)[None]
        returns = discounted_returns(rewards, self.judged[None], gamma=gamma)[0]
        return np.where(self.judged, returns, np.nan)

    @property
    def axis_alignments(self) -> np.ndarray:
        """v_tk v*_k / ||v_t|| [T, 3]: each axis' part of cos(v_t, v*); 0 for no move, NaN where not judged.

        The parts of a turn add up to the cosine, so an axis that is left behind shows as a flat line.
        """
        moves = np.diff(self.states, axis=0)
        lengths = np.linalg.norm(moves, axis=1, keepdims=True)
        if not np.any(self.states[0]):
            return np.full(moves.shape, np.nan)
        parts = moves * energy_direction(self.states[0]) / np.where(lengths > 0, lengths, 1.0)
        return np.where(self.judged[:, None], parts, np.nan)

    @property
    def score(self) -> EpmScore | None:
        """EPM-Q over the judged turns; None where it is not defined (nothing judged, or no deficit)."""
        if not self.judged.any() or self.distances[0] == 0:
            return None
        kept = self.judged | self.keeps_lost_turns
        return score_path(
            self.states[np.concatenate([[True], kept])],
            self.progress[kept],
            self.regress[kept],
            num_failed=int((~self.judged).sum()),
        )


def models_of(dialogues: Sequence[DrawnDialogue]) -> dict[str, list[DrawnDialogue]]:
    """Group dialogues by model, in the order in which models first appear."""
    groups: dict[str, list[DrawnDialogue]] = {}
    for dialogue in dialogues:
        groups.setdefault(dialogue.model, []).append(dialogue)
    return groups
