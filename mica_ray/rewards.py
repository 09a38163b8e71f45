"""C/A/P state paths of judged dialogues -> one reward per turn. No credit (mica_ray/credit), no judging.

A failed judgement is never read as a score: its turn is invalid, or takes its dialogue's mean on request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from mica_ray.types import Stop, Trajectory, TurnRewards

RewardKind = Literal["idr", "adr", "sum", "potential"]
Distance = Literal["zone", "norm"]
Missing = Literal["mask", "dialogue_mean"]

NUM_AXES = 3
"""Axes of a need state."""


def zone_distance(states: np.ndarray, eps: float = 1.0) -> np.ndarray:
    """Measure how far states are from the zone in which needs count as met.

        D(x) = sqrt(sum_k max(0, -eps - x_k)^2)             half-space distance of the MICA code

    An axis above -eps costs nothing, so surplus on one axis never pays for another.

    Args:
        states: [..., K], points.
        eps: deficit in points that is forgiven on each axis.

    Returns:
        [...], points, >= 0.
    """
    deficit = np.maximum(0.0, -eps - np.asarray(states, dtype=np.float64))
    return np.linalg.norm(deficit, axis=-1)


def norm_distance(states: np.ndarray) -> np.ndarray:
    """Measure how far states are from the origin: D(x) = ||x||, MICA, arXiv 2603.06194.

    Surplus counts as distance too.

    Args:
        states: [..., K], points.

    Returns:
        [...], points, >= 0.
    """
    return np.linalg.norm(np.asarray(states, dtype=np.float64), axis=-1)


@dataclass(frozen=True, slots=True)
class Rewards:
    """Turn the state paths of dialogues into rewards per turn.

        idr        r_t = D_{t-1} - D_t                  incremental distance, the paper's; telescopes
        adr        r_t = -D_t                           absolute distance
        sum        r_t = sum_k v_{t,k}                  the turn's increments summed over the axes
        potential  r_t = gamma Phi(P_t) - Phi(P_{t-1})  Phi(P) = scale / (scale + ||P||)

    Consumes the step's trajectories in any order, produces TurnRewards in the same order.
    """

    kind: RewardKind = "idr"
    distance: Distance = "zone"
    """D of idr and adr; sum and potential do not read it."""
    missing: Missing = "mask"
    """A failed judgement: "mask" makes its turn invalid, "dialogue_mean" gives it the mean of the dialogue's
    valid rewards (a dialogue without any stays invalid)."""
    gamma: float = 1.0
    """Discount of the potential form; the others do not read it."""
    scale: float = 9.0
    """a of the potential form, points: the norm at which Phi is one half."""

    def __post_init__(self) -> None:
        """Refuse values that name no reward."""
        for name, value, allowed in (
            ("kind", self.kind, get_args(RewardKind)),
            ("distance", self.distance, get_args(Distance)),
            ("missing", self.missing, get_args(Missing)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must be in (0, 1]; got {self.gamma}")
        if self.scale <= 0:
            raise ValueError(f"scale must be > 0; got {self.scale}")

    def __call__(self, trajectories: Sequence[Trajectory]) -> TurnRewards:
        """Give the reward of every turn of every trajectory.

        Every turn of a trajectory that stopped with FAILED is invalid: what it would have earned is unknown.
        The state does not move on a failed judgement, so the turn after it is measured from the last judged
        state.

        Args:
            trajectories: the trajectories of one step, B of them.

        Returns:
            Rewards [B, T] with T one more than the largest turn index of the batch, and the need state before
            each turn.

        Raises:
            ValueError: a trajectory's turn indices do not increase from 0 or more.
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
            rewards[row, columns] = np.where(scored, self.of_path(trajectory.states), 0.0)
            judged[row, columns] = scored
            missing[row, columns] = ~scored
            states[row, columns] = trajectory.states[:-1]
        group = np.array([trajectory.group for trajectory in trajectories], dtype=np.int64)
        if self.missing == "dialogue_mean":
            rewards, judged = _fill_with_dialogue_mean(rewards, judged, missing)
        return TurnRewards(rewards=rewards, valid=judged, group=group, states=states)

    def of_path(self, states: np.ndarray) -> np.ndarray:
        """Give the rewards [T] of one state path [T+1, K], whether its turns were judged or not."""
        if self.kind == "sum":
            return np.diff(states, axis=0).sum(axis=-1)
        if self.kind == "potential":
            potential = self.scale / (self.scale + norm_distance(states))
            return self.gamma * potential[1:] - potential[:-1]
        distance = zone_distance(states) if self.distance == "zone" else norm_distance(states)
        return -np.diff(distance) if self.kind == "idr" else -distance[1:]


def _columns(trajectory: Trajectory) -> list[int]:
    columns = [turn.index for turn in trajectory.turns]
    if columns and (columns[0] < 0 or any(after <= before for before, after in pairwise(columns))):
        raise ValueError(
            f"scenario {trajectory.scenario.id}, sample {trajectory.sample}: turn indices must increase "
            f"from 0; got {columns}"
        )
    return columns


def _fill_with_dialogue_mean(
    rewards: np.ndarray, judged: np.ndarray, missing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    num_judged = judged.sum(axis=1)
    mean = rewards.sum(axis=1) / np.maximum(num_judged, 1)
    filled = missing & (num_judged > 0)[:, None]
    return np.where(filled, mean[:, None], rewards), judged | filled
