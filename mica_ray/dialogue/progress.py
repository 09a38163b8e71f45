"""Rules of progress: energy, alignment, success, collapse, stall, oscillation (arXiv 2603.00552).

States in, numbers or a `Stop` out; no text and no I/O. dialogue/environment.py calls them after each turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mica_ray.checks import at_least, within
from mica_ray.types import State, Stop

_ROUNDING = 1e-9
"""Tolerance in points, so that rounding cannot miss a threshold that is met exactly."""


@dataclass(frozen=True, slots=True)
class ProgressRules:
    """When a dialogue ends. The defaults are those of the EMPA code; all windows are in turns."""

    max_turns: int = 45
    check_from: int = 12
    """First number of turns at which success and failure are checked."""
    tolerance: float = 0.05
    """a: success needs ||P_t|| <= a ||P_0|| or P_t . v* >= -a ||P_0||, together with E >= ||P_0||."""
    collapse_window: int = 5
    stall_window: int = 5
    stall_deviation: float = 0.5
    """Points: a stall needs a population standard deviation of the last ||P_t|| below this."""
    stall_lookback: int = 8
    stall_negative_fraction: float = 0.7
    stall_energy: float = -1.0
    """Points: a stall needs a summed energy of the lookback below this."""
    oscillation_window: int | None = 12
    """States of the path, P_0 included, that an oscillation starts and ends in; None for no such rule."""
    oscillation_distance: float = 3.0
    """Points: an oscillation needs an L1 distance between the window's first and last state below this."""
    give_up_norm: float | None = None
    """Points: the user gives up if ||P_t|| exceeds this; None for never. Not a rule of EMPA."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        at_least(
            1,
            max_turns=self.max_turns,
            check_from=self.check_from,
            collapse_window=self.collapse_window,
            stall_window=self.stall_window,
            stall_lookback=self.stall_lookback,
        )
        within(0, 1, tolerance=self.tolerance, stall_negative_fraction=self.stall_negative_fraction)
        at_least(0, stall_deviation=self.stall_deviation, oscillation_distance=self.oscillation_distance)
        if self.oscillation_window is not None:
            at_least(2, oscillation_window=self.oscillation_window)


def energy_direction(p0: State | Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the unit vector from the initial deficit to the origin.

        v* = -P_0 / ||P_0||                                     EMPA, arXiv 2603.00552

    Args:
        p0: [K], points.

    Returns:
        [K], no unit, length 1.

    Raises:
        ValueError: P_0 is the origin, which has no direction.
    """
    start = np.asarray(p0, dtype=np.float64)
    norm = float(np.linalg.norm(start))
    if norm == 0:
        raise ValueError(f"initial state must not be the origin, got {start.tolist()}.")
    return -start / norm


def energy_increments(states: np.ndarray) -> np.ndarray:
    """Return the progress of each turn along the direction from P_0 to the origin.

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
    """Return the cosine between each turn's change and the direction from P_0 to the origin.

        cos(v_t, v*) = dE_t / ||v_t||, 0 if v_t = 0             EMPA, arXiv 2603.00552

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


def dynamic_alignment(states: np.ndarray) -> np.ndarray:
    """Return the cosine between each turn's change and the direction from the state before it to the origin.

        cos(v_t, -P / ||P||),  P = P_{t-1}, the state that the reply met; 0 if v_t = 0 or P = 0

    The fixed direction of `alignment` is that of the first turn. A dialogue that first meets one need and
    then another leaves the fixed direction and may still move towards the origin in every turn.

    Args:
        states: [T+1, K], points, P_0 first.

    Returns:
        [T], in [-1, 1].

    Raises:
        ValueError: states is not [T+1, K].
    """
    path = _path(states)
    moves, before = np.diff(path, axis=0), path[:-1]
    lengths = np.linalg.norm(moves, axis=1) * np.linalg.norm(before, axis=1)
    towards = -(moves * before).sum(axis=1)
    return np.clip(np.divide(towards, lengths, out=np.zeros_like(lengths), where=lengths > 0), -1.0, 1.0)


def judge_stop(states: np.ndarray, rules: ProgressRules) -> Stop | None:
    """Return why the dialogue ends after these turns; None if it continues (EMPA).

        success:     (||P_t|| <= a ||P_0|| or P_t . v* >= -a ||P_0||) and E >= ||P_0||
        collapse:    the last dE are all below 0, or ||P_t|| > `give_up_norm`
        stall:       std of the last ||P|| small, most of the last dE below 0, their sum below `stall_energy`
        oscillation: |P_t - P_{t-w+1}|_1 < `oscillation_distance` over a window of w = 12 states

    The rules are checked from turn `rules.check_from` on, in this order; a window longer than the dialogue is
    skipped. The turn limit is last, so that a success at the last turn counts. Since
    E = P_t . v* + ||P_0||, the energy condition implies the crossing: a state on the near side of the origin
    is no success, however close.

    Args:
        states: [T+1, K], points, P_0 first; T turns played.
        rules: the domain's rules.

    Returns:
        The reason for the end; None to continue.

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
        if _is_oscillation(path, rules):
            return Stop.OSCILLATION
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


def _is_oscillation(path: np.ndarray, rules: ProgressRules) -> bool:
    window = rules.oscillation_window
    if window is None or len(path) < window:
        return False
    return float(np.abs(path[-1] - path[-window]).sum()) < rules.oscillation_distance - _ROUNDING


def _path(states: np.ndarray) -> np.ndarray:
    path = np.asarray(states, dtype=np.float64)
    if path.ndim != 2 or len(path) == 0:
        raise ValueError(f"states must be [T+1, K] with P_0 first, got shape {path.shape}.")
    return path
