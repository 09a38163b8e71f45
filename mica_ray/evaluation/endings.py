"""Replay the recorded levels of published runs by our progress rules and compare how both end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mica_ray.evaluation.rescore import RELEASED_RULES, first_stop
from mica_ray.recordings.recorded_dialogue import RecordedDialogue
from mica_ray.types import Stop

PROGRESS_POINTS = np.array([0.0, 1.0, 3.0])
"""Points of progress levels 0, 1, 2 (EMPA, arXiv 2603.00552)."""
REGRESS_POINTS = np.array([[0.0, -2.0, -4.0], [0.0, -2.0, -5.0], [0.0, -2.0, -5.0]])
"""Points of regress levels 0, -1, -2, by axis (EMPA, arXiv 2603.00552)."""


@dataclass(frozen=True, slots=True)
class EndingDifference:
    """A dialogue that our rules end differently from its record."""

    case: str
    recorded: str
    recorded_turn: int
    replayed: str
    """A `Stop`, or "goes on" if our rules do not end it."""
    replayed_turn: int
    cause: str


@dataclass(frozen=True, slots=True)
class EndingCheck:
    """The number of endings compared, and those that our rules do not reproduce."""

    checked: int
    differences: tuple[EndingDifference, ...]

    @property
    def agreeing_fraction(self) -> float:
        """Share of dialogues that end in the recorded way at the recorded turn; 1 without any dialogue."""
        return 1 - len(self.differences) / self.checked if self.checked else 1.0


def check_endings(records: Sequence[RecordedDialogue]) -> EndingCheck:
    """Apply our rules with a = 0.1 to the recorded levels and compare turn and kind of ending.

    The states are computed from P_0 and the levels, v_k = points(progress_k) + points(regress_k), so that
    levels, points, state and rules are all tested. The turn limit is the recorded one, otherwise 45.
    Dialogues without a recorded ending are skipped.
    """
    ended = [record for record in records if record.ending and record.is_played]
    differences = [found for record in ended if (found := _difference(record)) is not None]
    return EndingCheck(checked=len(ended), differences=tuple(differences))


def recorded_kind(ending: str) -> str:
    """Return the kind of ending that a published termination reason describes.

    Returns:
        The `Stop` with the same meaning, or "unknown".
    """
    text = ending.lower()
    if "success" in text:
        return Stop.SUCCESS
    if "direction collapse" in text:
        return Stop.COLLAPSE
    if "oscillation" in text:
        return Stop.OSCILLATION
    if "max turns" in text or "timeout" in text:
        return Stop.LIMIT
    return Stop.STALL if "failure" in text else "unknown"


def replayed_states(record: RecordedDialogue) -> np.ndarray:
    """Compute the state path [T+1, 3], points, from P_0 and the recorded levels."""
    gains = PROGRESS_POINTS[record.progress.astype(int)]
    losses = np.stack(
        [REGRESS_POINTS[axis][-record.regress[:, axis].astype(int)] for axis in range(3)], axis=1
    )
    return record.states[0] + np.vstack([np.zeros(3), np.cumsum(gains + losses, axis=0)])


def _difference(record: RecordedDialogue) -> EndingDifference | None:
    states = replayed_states(record)
    limit = re.search(r"max turns\D*(\d+)", record.ending.lower())
    rules = RELEASED_RULES if limit is None else replace(RELEASED_RULES, max_turns=int(limit[1]))
    stop, turn = first_stop(states, rules)
    kind, replayed = recorded_kind(record.ending), str(stop or "goes on")
    if (kind, record.num_turns) == (replayed, turn):
        return None
    return EndingDifference(
        case=record.scenario,
        recorded=kind,
        recorded_turn=record.num_turns,
        replayed=replayed,
        replayed_turn=turn,
        cause=_cause(record, states, kind, turn),
    )


def _cause(record: RecordedDialogue, states: np.ndarray, kind: str, turn: int) -> str:
    apart = np.flatnonzero((np.abs(states - record.states) > 1e-6).any(axis=1))
    if apart.size:
        return f"the levels of turn {apart[0]} do not lead to the recorded state"
    if kind == "unknown":
        return f"unknown reason: {record.ending}"
    if turn < record.num_turns:
        return "our rules end it earlier: it was recorded under other rules"
    return f"our rules do not end it this way at this turn: {record.ending}"
