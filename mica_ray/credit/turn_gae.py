"""Generalised advantages over turns with a critic on the need state, fitted anew on every batch.

Needs `TurnRewards.states`. The critic is a small ridge regression: nothing is learned across steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mica_ray.credit.anchor_states import valid_states
from mica_ray.credit.normalize import CONSTANT_TOLERANCE, segment_sizes, standardize, turn_segments
from mica_ray.credit.returns import discounted_returns
from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True)
class TurnGae:
    """Estimate advantages by temporal differences of a critic that sees the need state and the turn index.

        d[i, t] = r[i, t] + gamma V(s[i, t+1]) - V(s[i, t])
        A[i, t] = sum_{k >= 0} (gamma lam)^k d[i, t+k]              GAE, arXiv 1506.02438, over turns
        V_i(s, t) = b_t + w . s      ridge regression on the returns of the batch's other dialogues

    After the last turn V is 0. Each dialogue is valued by a critic fitted without it, so at gamma = lam = 1
    and without whitening the expected gradient is the true one; lam < 1 trusts the critic and inherits its
    errors. A turn that no other dialogue of the batch reached has V = 0. A hole (a failed judgement) earns 0
    and is stepped over. Unlike a PPO critic this one forgets: it sees one batch.
    """

    gamma: float = 1.0
    """Discount per turn, in [0, 1]."""
    lam: float = 0.95
    """Trust in measured rewards over the critic, in [0, 1]: 1 measures, 0 looks one turn ahead."""
    ridge: float = 0.01
    """Penalty on the slopes, as a share of each state component's sum of squares, > 0."""
    whiten: bool = True
    """Whether the advantages are centred and scaled over the batch, as PPO does."""

    def __post_init__(self) -> None:
        """Refuse discounts outside [0, 1] and a penalty that is not positive."""
        for name, value in (("gamma", self.gamma), ("lam", self.lam)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1]; got {value}")
        if not (self.ridge > 0 and math.isfinite(self.ridge)):
            raise ValueError(f"ridge must be finite and > 0; got {self.ridge}")

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Give the advantage of every turn.

        Args:
            turns: rewards and states of one step.

        Returns:
            [B, T] float64, no unit when whitened and reward units when not, 0 where not valid.

        Raises:
            ValueError: there are no states, or a reward or state of a valid turn is not finite.
        """
        returns = discounted_returns(turns.rewards, turns.valid, gamma=self.gamma)
        values = leave_one_out_values(turns, returns, ridge=self.ridge)
        earned = np.where(turns.valid, turns.rewards, 0.0).astype(np.float64)
        advantages = np.zeros(earned.shape)
        later_value, later_advantage = np.zeros(earned.shape[0]), np.zeros(earned.shape[0])
        for t in range(earned.shape[1] - 1, -1, -1):
            is_valid = turns.valid[:, t]
            difference = earned[:, t] + later_value - values[:, t]
            advantages[:, t] = np.where(is_valid, difference + later_advantage, 0.0)
            later_value = self.gamma * np.where(is_valid, values[:, t], later_value)
            later_advantage = self.gamma * self.lam * np.where(is_valid, advantages[:, t], later_advantage)
        if not self.whiten:
            return advantages
        return standardize(advantages, turns.valid, segments=np.zeros(earned.shape, dtype=np.int64))


def leave_one_out_values(turns: TurnRewards, returns: np.ndarray, *, ridge: float) -> np.ndarray:
    """Value each turn by a ridge regression on the other dialogues of the batch.

        V_i(s, t) = mean_t + w_i . (s - mean state_t),   means over the other dialogues at turn t
        w_i = (C_i + ridge diag C_i)^-1 c_i              C_i, c_i: their covariances within turns

    Fitting all of them costs one regression: what dialogue i added is taken out of the sums again.

    Args:
        turns: rewards and states of one step.
        returns: [B, T], reward units, 0 where not valid.
        ridge: penalty as a share of diag C.

    Returns:
        [B, T] float64, reward units, 0 where not valid or where no other dialogue reached the turn.

    Raises:
        ValueError: there are no states, or a reward or state of a valid turn is not finite.
    """
    valid = turns.valid
    known = valid_states(turns)
    same_turn = turn_segments(np.zeros_like(turns.group), valid.shape[1])

    def from_others(values: np.ndarray) -> np.ndarray:
        return standardize(values, valid, segments=same_turn, baseline="leave_one_out", divide=False)

    components: list[np.ndarray] = []
    for column in known.T:
        component = np.zeros(valid.shape)
        component[valid] = column
        components.append(from_others(component))
    states, followed = np.stack(components, axis=-1), from_others(returns)
    count = segment_sizes(valid, same_turn)
    share = np.where(valid, (count - 1) / np.maximum(count, 1), 0.0)
    slopes = _leave_one_out_slopes(states, followed, share=share, ridge=ridge)
    predicted = np.einsum("itk,ik->it", states, slopes)
    return np.where(valid & (count > 1), returns - followed + predicted, 0.0)


def _leave_one_out_slopes(
    states: np.ndarray, followed: np.ndarray, *, share: np.ndarray, ridge: float
) -> np.ndarray:
    """Fit w_i for every dialogue, from deviations about the mean of the others at the same turn.

    With x' = x - mean_{j != i} x_j and share = (n - 1) / n: a turn's sum of squares is sum (share x')^2, and
    without member i it falls by share x'^2.

    Args:
        states: [B, T, K], deviations of the states.
        followed: [B, T], deviations of the returns.
        share: [B, T], 0 where not valid.
        ridge: penalty as a share of each state component's sum of squares.

    Returns:
        [B, K].
    """
    about_mean = share[..., None] * states
    covariance = np.einsum("itk,itl->kl", about_mean, about_mean) - np.einsum(
        "it,itk,itl->ikl", share, states, states
    )
    with_return = np.einsum("itk,it->k", about_mean, share * followed) - np.einsum(
        "it,itk,it->ik", share, states, followed
    )
    diagonal = np.einsum("ikk->ik", covariance)
    # A component that nobody varies in has no slope to find; any penalty keeps the system solvable.
    varies = diagonal > CONSTANT_TOLERANCE * max(1.0, float(diagonal.max(initial=0.0)))
    penalty = np.where(varies, ridge * diagonal, 1.0)
    system = covariance + penalty[..., None] * np.eye(states.shape[2])
    slopes = np.empty_like(with_return)
    slopes[:] = np.linalg.solve(system, with_return[..., None])[..., 0]
    return slopes
