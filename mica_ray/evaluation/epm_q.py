"""EPM-Q, the score of the EMPA benchmark, from a state path and the judge's levels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields

import numpy as np

from mica_ray.dialogue.progress import alignment, dynamic_alignment, energy_increments
from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.rewards import zone_distance
from mica_ray.types import Trajectory

ENERGY_TARGET = 1.2
"""Total energy with index 100, in multiples of the initial zone distance."""
LEVEL_TARGET = 1.5
"""Sum of raw levels with index 100, in multiples of the initial zone distance."""
RATE_TARGET = 2.5
"""Energy per turn with index 100, points."""
TORTUOSITY_LIMIT = 3.0
"""Path length over displacement at which the tortuosity index is 0; a straight path has 1, hence 100."""
PENALTY_LIMIT = 3.0
"""Mean sum of regress levels per point at which the penalty index reaches 0."""


@dataclass(frozen=True, slots=True)
class EpmScore:
    """The nine indices of EPM-Q, 0 to 100 unless noted, and the score computed from them."""

    distance: float
    """Idx_RDI: share of the distance closed; 50 means none."""
    energy: float
    """Idx_Etot: total energy; may exceed 100."""
    levels: float
    """Idx_Snet: sum of raw levels; may exceed 100."""
    density: float
    """Idx_Rho: energy per turn; may exceed 100."""
    projection: float
    """Idx_Sproj: mean energy per point of the path; may exceed 100."""
    tortuosity: float
    """Idx_Tau: how straight the path is."""
    positive: float
    """Idx_Rpos: percentage of points with energy above 0."""
    alignment: float
    """Idx_Align: mean cosine between the moves and the direction to the origin; 50 means none."""
    penalty: float
    """Idx_Pen: 100 means no regress."""
    score: float
    """EPM-Q; not capped at 100."""
    num_turns: int
    """Number of scored turns."""
    num_failed: int = 0
    """Turns left out because their judgement failed."""
    alignment_fixed: float = 0.0
    """Mean over the turns of cos(v_t, v*), v* the direction from P_0 to the origin; -1 to 1. The index
    `alignment` is computed from it."""
    alignment_dynamic: float = 0.0
    """As `alignment_fixed`, with the direction from the state before each turn; not in the score."""


INDEX_NAMES: tuple[str, ...] = tuple(item.name for item in fields(EpmScore))[:9]
"""The nine indices in the order of the formula: three of outcome, three of efficiency, three of stability."""


def score_trajectory(trajectory: Trajectory) -> EpmScore | None:
    """Score one played dialogue; turns without a judgement are left out and counted.

    A failed judgement does not move the state, so the path without its turn is the same path.

    Returns:
        None if no turn was judged: such a dialogue is no evidence about the policy.
    """
    judged = [turn for turn in trajectory.turns if turn.judgement.is_valid]
    if not judged:
        return None
    states = [trajectory.scenario.initial_state, *(turn.state_after for turn in judged)]
    return score_path(
        np.asarray(states, dtype=np.float64),
        np.asarray([turn.judgement.progress for turn in judged], dtype=np.float64),
        np.asarray([turn.judgement.regress for turn in judged], dtype=np.float64),
        num_failed=len(trajectory.turns) - len(judged),
    )


def score_dialogue(dialogue: RecordedDialogue, *, judged_only: bool = False) -> EpmScore:
    """Score one dialogue read from a file.

    Turns without a judgement are left out of our own dialogues. In published runs they stay, as turns that
    move nothing, because the published score is computed that way.

    Args:
        dialogue: one with levels, not an emotion file's.
        judged_only: leave such turns out of published runs too.

    Raises:
        ValueError: the dialogue failed, no turn was judged, or the start is already inside the zone.
    """
    if not dialogue.is_played:
        raise ValueError("the dialogue failed")
    if not dialogue.judged.any():
        raise ValueError("no turn was judged")
    kept = dialogue.judged | (dialogue.form == "run" and not judged_only)
    # A turn without a judgement leaves the state unchanged, so the path without it is the same path.
    return score_path(
        dialogue.states[np.concatenate([[True], kept])],
        dialogue.progress[kept],
        dialogue.regress[kept],
        num_failed=int((~dialogue.judged).sum()),
    )


def scores_of(dialogues: Sequence[RecordedDialogue]) -> list[EpmScore]:
    """Return the scores of the dialogues that have one; the others are left out."""
    scores: list[EpmScore] = []
    for dialogue in dialogues:
        with suppress(ValueError):
            scores.append(score_dialogue(dialogue))
    return scores


def score_path(
    states: np.ndarray, progress: np.ndarray, regress: np.ndarray, *, num_failed: int = 0
) -> EpmScore:
    """Score a state path (EMPA, arXiv 2603.00552; constants as in the released evaluation code).

        v_t = P_t - P_{t-1}, v* = -P_0 / ||P_0||,  dE_t = v_t . v*,  E = sum dE,  D zone distance; r0 = D(P_0)
        RDI = 100 (r0 - D(P_T)) / r0;   tau = max(1, path length / displacement)
        outcome:    clip((RDI + 100) / 2, 0, 100),  100 E+ / (1.2 r0),  100 (sum of levels)+ / (1.5 r0)
        efficiency: 100 (E / T)+ / 2.5,  100 (mean dE)+ / 2.5,  100 (3 - tau)+ / 2
        stability:  % of dE > 0,  50 (mean cos(v_t, v*) + 1),  100 (3 - mean sum |regress|)+ / 3
        score = 0.4 mean(outcome) + 0.2 mean(efficiency) + 0.4 mean(stability)

    Means and percentages run over T + 1 points: the start counts as one with dE = cos = regress = 0. A turn
    that does not move has cos 0. A path that returns to its start has infinite tau, hence index 0.

    Args:
        states: [T+1, K] points, P_0 first.
        progress: [T, K] levels 0..2.
        regress: [T, K] levels -2..0.
        num_failed: turns the caller left out; only copied to the result.

    Raises:
        ValueError: there is no turn, the shapes disagree, or the start is already inside the zone.
    """
    num_turns = len(states) - 1
    if num_turns < 1 or progress.shape != (num_turns, 3) or regress.shape != (num_turns, 3):
        raise ValueError(
            "states must be [T+1, 3] with T >= 1 and levels [T, 3], "
            f"got {states.shape}, {progress.shape}, {regress.shape}."
        )
    start_distance, end_distance = (float(zone_distance(state)) for state in (states[0], states[-1]))
    if start_distance == 0:
        raise ValueError(
            f"the initial state must be outside the zone (an axis below -1), got {states[0].tolist()}"
        )
    gains = energy_increments(states)
    path_length = float(np.linalg.norm(np.diff(states, axis=0), axis=1).sum())
    energy, points = float(gains.sum()), num_turns + 1
    closed = 100 * (start_distance - end_distance) / start_distance
    indices = (
        float(np.clip((closed + 100) / 2, 0, 100)),
        100 * max(0.0, energy) / (ENERGY_TARGET * start_distance),
        100 * max(0.0, float(progress.sum() + regress.sum())) / (LEVEL_TARGET * start_distance),
        100 * max(0.0, energy / num_turns) / RATE_TARGET,
        100 * max(0.0, energy / points) / RATE_TARGET,
        _tortuosity_index(path_length, float(np.linalg.norm(states[-1] - states[0]))),
        100 * float((gains > 0).sum()) / points,
        50 * (float(alignment(states).sum()) / points + 1),
        100 * max(0.0, PENALTY_LIMIT - float(np.abs(regress).sum()) / points) / PENALTY_LIMIT,
    )
    return EpmScore(
        *indices,
        score=_combine(indices),
        num_turns=num_turns,
        num_failed=num_failed,
        alignment_fixed=float(alignment(states).mean()),
        alignment_dynamic=float(dynamic_alignment(states).mean()),
    )


def _combine(indices: Sequence[float]) -> float:
    outcome, efficiency, stability = (sum(indices[start : start + 3]) / 3 for start in (0, 3, 6))
    return 0.4 * outcome + 0.2 * efficiency + 0.4 * stability


def _tortuosity_index(path_length: float, displacement: float) -> float:
    if displacement == 0:
        return 0.0
    tortuosity = max(1.0, path_length / displacement)
    return 100 * max(0.0, TORTUOSITY_LIMIT - tortuosity) / (TORTUOSITY_LIMIT - 1)
