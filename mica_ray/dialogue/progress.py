"""Pure rules of progress: energy, alignment, success, collapse, stall (method of EMPA, arXiv 2603.00552).

No I/O and no language: states in, numbers or a `Stop` out. Who asks them when is `environment.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.types import State, Stop

_ROUNDING = 1e-9
"""Points. Levels are whole points, so a threshold met exactly must not be lost to floating point."""


@dataclass(frozen=True, slots=True)
class ProgressRules:
    """When a dialogue ends. The defaults are those of the EMPA code; all windows are in turns."""

    max_turns: int = 45
    check_from: int = 12
    """The first turn count at which success and failure are looked for."""
    tolerance: float = 0.05
    """a: success needs ||P_t|| <= a ||P_0|| or P_t . v* >= -a ||P_0||, together with E >= ||P_0||."""
    collapse_window: int = 5
    stall_window: int = 5
    stall_deviation: float = 0.5
    """Points: population standard deviation of the last ||P_t|| below which the dialogue no longer moves."""
    stall_lookback: int = 8
    stall_negative_fraction: float = 0.7
    stall_energy: float = -1.0
    """Points: the energy of the lookback must lie below it."""
    give_up_norm: float | None = None
    """Points: the user gives up where ||P_t|| is above it; None where nobody does. No rule of EMPA."""

    def __post_init__(self) -> None:
        """Refuse rules under which no dialogue could be played or judged."""
        for name in ("max_turns", "check_from", "collapse_window", "stall_window", "stall_lookback"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}")
        for name in ("tolerance", "stall_negative_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1]; got {getattr(self, name)}")
        if self.stall_deviation < 0:
            raise ValueError(f"stall_deviation must be >= 0; got {self.stall_deviation}")


def energy_direction(p0: State | Sequence[float] | np.ndarray) -> np.ndarray:
    """Give the unit vector from the initial deficit to the origin.

        v* = -P_0 / ||P_0||                                     EMPA, arXiv 2603.00552

    Args:
        p0: [K], points.

    Returns:
        [K], no unit, length 1.

    Raises:
        ValueError: P_0 is the origin: a user without needs has no direction.
    """
    start = np.asarray(p0, dtype=np.float64)
    norm = float(np.linalg.norm(start))
    if norm == 0:
        raise ValueError(f"initial state must lie off the origin; got {start.tolist()}")
    return -start / norm


def energy_increments(states: np.ndarray) -> np.ndarray:
    """Give the progress of each turn along the direction that the initial deficit asks for.

        dE_t = v_t . v*,   v_t = P_t - P_{t-1}                  EMPA, arXiv 2603.00552

    The sum E telescopes to (P_T - P_0) . v*. A turn whose judgement failed has v_t = 0 and adds nothing.

    Args:
        states: [T+1, K], points, P_0 first.

    Returns:
        [T], points.

    Raises:
        ValueError: states is not [T+1, K], or P_0 is the origin.
    """
    path = _path(states)
    return np.diff(path, axis=0) @ energy_direction(path[0])


def alignment(states: np.ndarray) -> np.ndarray:
    """Give the cosine between each turn's change and the direction that the initial deficit asks for.

        cos(v_t, v*) = dE_t / ||v_t||, 0 where nothing moved    EMPA, arXiv 2603.00552

    Args:
        states: [T+1, K], points, P_0 first.

    Returns:
        [T], in [-1, 1].

    Raises:
        ValueError: states is not [T+1, K], or P_0 is the origin.
    """
    path = _path(states)
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
    cosines = np.divide(energy_increments(path), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return np.clip(cosines, -1.0, 1.0)


def judge_stop(states: np.ndarray, rules: ProgressRules) -> Stop | None:
    """Say whether the dialogue is over after the turns played, and why (EMPA, arXiv 2603.00552).

        success:  (||P_t|| <= a ||P_0|| or P_t . v* >= -a ||P_0||) and E >= ||P_0||
        collapse: the last dE are all below 0, or ||P_t|| > `give_up_norm`
        stall:    std of the last ||P|| small, most of the last dE below 0, and their sum below `stall_energy`

    They are looked for from turn `rules.check_from` on, in this order; a window longer than the dialogue is
    not looked through. The turn limit comes last: a dialogue that succeeds at its last turn succeeded. Since
    E = P_t . v* + ||P_0||, the energy condition implies the crossing: a user on the origin's near side is
    not done, however close.

    Args:
        states: [T+1, K], points, P_0 first; T turns have been played.
        rules: the domain's rules.

    Returns:
        The ending, None to go on.

    Raises:
        ValueError: states is not [T+1, K], or P_0 is the origin.
    """
    path = _path(states)
    energy = energy_increments(path)
    if len(energy) >= rules.check_from:
        if _is_success(path, float(energy.sum()), rules):
            return Stop.SUCCESS
        if _is_collapse(energy, rules) or _has_given_up(path, rules):
            return Stop.COLLAPSE
        if _is_stall(path, energy, rules):
            return Stop.STALL
    return Stop.LIMIT if len(energy) >= rules.max_turns else None


def _is_success(path: np.ndarray, total_energy: float, rules: ProgressRules) -> bool:
    deficit = float(np.linalg.norm(path[0]))
    margin = rules.tolerance * deficit + _ROUNDING
    is_near = float(np.linalg.norm(path[-1])) <= margin
    is_across = float(path[-1] @ energy_direction(path[0])) >= -margin
    return (is_near or is_across) and total_energy >= deficit - _ROUNDING


def _is_collapse(energy: np.ndarray, rules: ProgressRules) -> bool:
    recent = energy[-rules.collapse_window :]
    return len(recent) == rules.collapse_window and bool((recent < -_ROUNDING).all())


def _has_given_up(path: np.ndarray, rules: ProgressRules) -> bool:
    return rules.give_up_norm is not None and float(np.linalg.norm(path[-1])) > rules.give_up_norm + _ROUNDING


def _is_stall(path: np.ndarray, energy: np.ndarray, rules: ProgressRules) -> bool:
    if len(energy) < max(rules.stall_window, rules.stall_lookback):
        return False
    norms = np.linalg.norm(path[-rules.stall_window :], axis=1)
    recent = energy[-rules.stall_lookback :]
    return (
        float(norms.std()) < rules.stall_deviation
        and float((recent < -_ROUNDING).mean()) > rules.stall_negative_fraction
        and float(recent.sum()) < rules.stall_energy
    )


def _path(states: np.ndarray) -> np.ndarray:
    path = np.asarray(states, dtype=np.float64)
    if path.ndim != 2 or len(path) == 0:
        raise ValueError(f"states must be [T+1, K] with P_0 first; got shape {path.shape}")
    return path
