"""A gate that takes turns out of training whose spread among siblings is within the judge's noise.

It departs from the paper and is off by default. `Gated` wraps any estimator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mica_ray.checks import above, one_of, within
from mica_ray.credit.estimator import CreditEstimator, trained_turns
from mica_ray.credit.grpo import has_valid_turn
from mica_ray.credit.normalize import group_segments, segment_sizes, standardize, turn_segments
from mica_ray.credit.returns import dialogue_rewards, discounted_returns
from mica_ray.types import TurnRewards

GateScope = Literal["turn", "group", "dialogue"]
GateMode = Literal["exclude", "shrink"]


@dataclass(frozen=True, slots=True)
class NoiseGate:
    """Compare the spread of siblings with the noise of the judge.

        near tie:  s <= ratio * e      s^2 = sum (x - mean)^2 / (n - 1),   e^2 = mean over the n of Var(noise)
        "turn"      x = G[i, t] over the group's dialogues at t,  Var = sd^2 sum_{s >= t} gamma^(2 (s - t))
        "group"     x = r[i, t] over all turns of the group,      Var = sd^2
        "dialogue"  x = R_i over the group,                       Var = sd^2 T_i

    A z-score divides a near tie by its own spread, so noise becomes advantages of the usual size. Without
    any difference between siblings E[s^2] = e^2. Values without siblings are not gated.

    >>> turns = TurnRewards(np.array([[1.0, 4.0], [0.0, 0.0]]), np.ones((2, 2), bool), np.zeros(2, int))
    >>> NoiseGate(reward_sd=1.0).weights(turns, gamma=0.0)    # s = sqrt(1 / 2) <= 1; sqrt(16 / 2) > 1
    array([[0., 1.],
           [0., 1.]])
    """

    reward_sd: float
    """Standard deviation of the judge's error in the reward of a turn, reward units; `mica credit noise`
    prints it."""
    ratio: float = 1.0
    """Near ties have at most this multiple of the noise as spread."""
    scope: GateScope = "turn"
    """What is compared. "group" and "dialogue" decide for all turns of a group together."""
    mode: GateMode = "exclude"
    """"exclude": near ties leave loss, token count and KL. "shrink": every advantage is multiplied by the
    share of the variance that is not noise, max(0, 1 - (ratio e / s)^2); at 0 the turn is excluded."""

    def __post_init__(self) -> None:
        """Check names and ranges."""
        above(0, reward_sd=self.reward_sd, ratio=self.ratio)
        one_of(get_args(GateScope), scope=self.scope)
        one_of(get_args(GateMode), mode=self.mode)

    def weights(self, turns: TurnRewards, *, gamma: float) -> np.ndarray:
        """Compute the factor of every turn's advantage.

        Args:
            turns: rewards of one step.
            gamma: discount of the returns of scope "turn".

        Returns:
            [B, T] in [0, 1], 0 where not valid. With mode "exclude" 0 or 1.
        """
        # Squares, so that a spread equal to the noise is recognized in spite of rounding in the roots.
        squared = self.ratio**2 / np.maximum(self.squared_ratios(turns, gamma=gamma), 1e-300)
        kept = np.where(squared < 1.0, 1.0 if self.mode == "exclude" else 1.0 - squared, 0.0)
        return np.where(turns.valid, kept, 0.0)

    def squared_ratios(self, turns: TurnRewards, *, gamma: float) -> np.ndarray:
        """Compute s^2 / e^2 of every turn: [B, T], infinite without siblings or where not valid."""
        width = turns.rewards.shape[1]
        noise = np.full(turns.rewards.shape, self.reward_sd**2)
        if self.scope == "turn":
            values = discounted_returns(turns.rewards, turns.valid, gamma=gamma)
            noise = discounted_returns(noise, turns.valid, gamma=gamma**2)
            return _squared_ratios(values, noise, turns.valid, turn_segments(turns.group, width))
        if self.scope == "group":
            return _squared_ratios(turns.rewards, noise, turns.valid, group_segments(turns.group, width))
        total, noise = dialogue_rewards(turns.rewards, turns.valid), dialogue_rewards(noise, turns.valid)
        segments = group_segments(turns.group, 1)[:, 0]
        found = _squared_ratios(total, noise, has_valid_turn(turns.valid), segments)
        return np.where(turns.valid, found[:, None], np.inf)


def _squared_ratios(
    values: np.ndarray, noise: np.ndarray, valid: np.ndarray, segments: np.ndarray
) -> np.ndarray:
    """Return s^2 / e^2 of every value's segment, infinite for segments of one and where not valid."""
    size = segment_sizes(valid, segments)
    centred = standardize(values, valid, segments=segments, divide=False)
    number = int(segments.max(initial=-1)) + 1

    def summed(each: np.ndarray) -> np.ndarray:
        return np.bincount(segments[valid], weights=each[valid], minlength=number)[segments]

    compared = valid & (size > 1)
    spread = summed(centred**2) / np.maximum(size - 1, 1)
    of_noise = summed(noise) / np.maximum(size, 1)
    return np.where(compared, spread / np.where(compared, of_noise, 1.0), np.inf)


@dataclass(frozen=True, slots=True)
class Gated:
    """An estimator behind a gate. Its statistics run over all turns, as without the gate."""

    estimator: CreditEstimator
    gate: NoiseGate

    @property
    def gamma(self) -> float:
        """Discount of the estimator; 1 if it has none."""
        return float(getattr(self.estimator, "gamma", 1.0))

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Compute the advantage of every turn, [B, T] float64, 0 where a turn is gated or not valid."""
        return self.estimator(turns) * self.gate.weights(turns, gamma=self.gamma)

    def trained(self, turns: TurnRewards) -> np.ndarray:
        """Return the turns to train on: [B, T] bool, those of the estimator that are not gated."""
        return trained_turns(self.estimator, turns) & (self.gate.weights(turns, gamma=self.gamma) > 0)

    def gated_fraction(self, turns: TurnRewards) -> float | None:
        """Return the share of the estimator's trained turns that the gate excludes; None without turns."""
        before = trained_turns(self.estimator, turns)
        if not before.any():
            return None
        return 1.0 - float(self.trained(turns)[before].mean())


def nearest_ties(squared_ratios: np.ndarray, *, fraction: float) -> np.ndarray:
    """Choose the turns whose judgement is worth repeating: those nearest to a tie.

    >>> nearest_ties(np.array([[0.5, 3.0], [np.inf, 2.0]]), fraction=0.7)    # inf is never chosen
    array([[ True, False],
           [False,  True]])

    Args:
        squared_ratios: [B, T], of `NoiseGate.squared_ratios`.
        fraction: share of the finite entries that is chosen, rounded down, in [0, 1]; ties by position.

    Returns:
        [B, T] bool.
    """
    within(0, 1, fraction=fraction)
    flat = squared_ratios.reshape(-1)
    # Rounding must not lose a turn: 0.7 x 10 is 6.999...
    count = int(fraction * np.isfinite(flat).sum() + 1e-9)
    chosen = np.zeros(flat.shape, dtype=bool)
    chosen[np.argsort(flat, kind="stable")[:count]] = True
    return chosen.reshape(squared_ratios.shape)
