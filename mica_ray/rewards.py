"""Rewards per turn from the state paths of judged dialogues; advantages are in credit/.

A failed judgement is never a score: its turn is invalid or, on request, gets the mean of its dialogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from mica_ray.checks import above, one_of
from mica_ray.types import AXES, Stop, Trajectory, TurnRewards

RewardKind = Literal["idr", "adr", "sum", "potential"]
Distance = Literal["zone", "norm"]
Missing = Literal["mask", "dialogue_mean"]

NUM_AXES = len(AXES)
"""Number of axes of a need state."""


def zone_distance(states: np.ndarray, eps: float = 1.0) -> np.ndarray:
    """Return the distance of states from the zone in which needs count as met.

        D(x) = sqrt(sum_k max(0, -eps - x_k)^2)             half-space distance of the MICA code

    An axis above -eps adds nothing, so surplus on one axis never compensates a deficit on another.

    >>> zone_distance(np.array([[-4.0, -5.0, 2.0], [-1.0, 0.0, 0.0]]))    # sqrt(3^2 + 4^2), then 0
    array([5., 0.])

    Args:
        states: [..., K], points.
        eps: deficit in points that is tolerated on each axis.

    Returns:
        [...], points, >= 0.
    """
    deficit = np.maximum(0.0, -eps - np.asarray(states, dtype=np.float64))
    return np.linalg.norm(deficit, axis=-1)


def norm_distance(states: np.ndarray) -> np.ndarray:
    """Return the distance of states from the origin: D(x) = ||x||, MICA, arXiv 2603.06194.

    Surplus counts as distance too.

    >>> norm_distance(np.array([0.0, -3.0, 4.0]))
    np.float64(5.0)

    Args:
        states: [..., K], points.

    Returns:
        [...], points, >= 0.
    """
    return np.linalg.norm(np.asarray(states, dtype=np.float64), axis=-1)


@dataclass(frozen=True, slots=True)
class Rewards:
    """Compute rewards per turn from the state paths of dialogues.

        idr        r_t = D_{t-1} - D_t                  incremental distance, the paper's; telescopes
        adr        r_t = -D_t                           absolute distance
        sum        r_t = sum_k v_{t,k}                  the turn's increments summed over the axes
        potential  r_t = gamma Phi(P_t) - Phi(P_{t-1})  Phi(P) = scale / (scale + ||P||)

    Calling it converts the trajectories of a step, in any order, to TurnRewards in the same order.

    >>> path = np.array([[-3.0, -4.0, -3.0], [-3.0, -1.0, -3.0], [-1.0, -1.0, -1.0]])    # D = 4.12, 2.83, 0
    >>> Rewards("idr").of_path(path).round(2).tolist(), Rewards("sum").of_path(path).tolist()
    ([1.29, 2.83], [3.0, 4.0])
    """

    kind: RewardKind = "idr"
    distance: Distance = "zone"
    """D of "idr" and "adr"; the other kinds ignore it."""
    missing: Missing = "mask"
    """Treatment of a failed judgement. "mask": its turn is invalid. "dialogue_mean": its turn gets the mean
    of the dialogue's valid rewards, and remains invalid if there are none or if nothing was said in it."""
    gamma: float | None = None
    """Discount of "potential"; the other kinds ignore it. None: the discount of the run's credit, or 1
    outside a run. A potential with another discount than the returns changes which policy is best."""
    scale: float = 9.0
    """Scale of "potential" in points: the norm at which Phi is one half."""

    def __post_init__(self) -> None:
        """Check names and ranges."""
        one_of(get_args(RewardKind), kind=self.kind)
        one_of(get_args(Distance), distance=self.distance)
        one_of(get_args(Missing), missing=self.missing)
        above(0, scale=self.scale)
        if self.gamma is not None and not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must be in (0, 1], got {self.gamma}.")

    def __call__(self, trajectories: Sequence[Trajectory]) -> TurnRewards:
        """Compute the reward of every turn of every trajectory.

        All turns of a trajectory that stopped with FAILED are invalid: what it would have earned is unknown.
        A failed judgement leaves the state unchanged: the next turn is measured from the last judged state.

        Args:
            trajectories: the B trajectories of one step.

        Returns:
            Rewards [B, T], where T is the largest turn index of the batch plus 1, and the need state before
            each turn.

        Raises:
            ValueError: a trajectory's turn indices are negative or do not increase.
        """
        num_turns = max(
            (turn.index + 1 for trajectory in trajectories for turn in trajectory.turns), default=0
        )
        rewards = np.zeros((len(trajectories), num_turns))
        judged = np.zeros((len(trajectories), num_turns), dtype=bool)
        missing = np.zeros((len(trajectories), num_turns), dtype=bool)
        states = np.zeros((len(trajectories), num_turns, NUM_AXES))
        for row, trajectory in enumerate(trajectories):
            columns = _columns(trajectory)
            if trajectory.stop is Stop.FAILED or not columns:
                continue
            scored = np.array([turn.judgement.is_valid for turn in trajectory.turns])
            is_silent = np.array([turn.is_silent for turn in trajectory.turns])
            rewards[row, columns] = np.where(scored, self.of_path(trajectory.states), 0.0)
            judged[row, columns] = scored
            missing[row, columns] = ~scored & ~is_silent
            states[row, columns] = trajectory.states[:-1]
        group = np.array([trajectory.group for trajectory in trajectories], dtype=np.int64)
        if self.missing == "dialogue_mean":
            rewards, judged = _fill_with_dialogue_mean(rewards, judged, missing)
        return TurnRewards(rewards=rewards, valid=judged, group=group, states=states)

    def of_path(self, states: np.ndarray) -> np.ndarray:
        """Return the rewards [T] of one state path [T+1, K], as if all its turns were judged."""
        if self.kind == "sum":
            return np.diff(states, axis=0).sum(axis=-1)
        if self.kind == "potential":
            potential = self.scale / (self.scale + norm_distance(states))
            return (1.0 if self.gamma is None else self.gamma) * potential[1:] - potential[:-1]
        distance = zone_distance(states) if self.distance == "zone" else norm_distance(states)
        return -np.diff(distance) if self.kind == "idr" else -distance[1:]


def _columns(trajectory: Trajectory) -> list[int]:
    columns = [turn.index for turn in trajectory.turns]
    if columns and (columns[0] < 0 or any(after <= before for before, after in pairwise(columns))):
        raise ValueError(
            f"Turn indices of scenario {trajectory.scenario.id}, sample {trajectory.sample} must be >= 0 "
            f"and increase, got {columns}."
        )
    return columns


def _fill_with_dialogue_mean(
    rewards: np.ndarray, judged: np.ndarray, missing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    num_judged = judged.sum(axis=1)
    mean = rewards.sum(axis=1) / np.maximum(num_judged, 1)
    filled = missing & (num_judged > 0)[:, None]
    return np.where(filled, mean[:, None], rewards), judged | filled
