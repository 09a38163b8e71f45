"""Generalized advantage estimation (GAE) over turns, with a critic on the need state.

Needs `TurnRewards.states`. The critic is a small ridge regression, fitted to each batch without memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mica_ray.checks import above, within
from mica_ray.credit.anchor_states import valid_states
from mica_ray.credit.normalize import CONSTANT_TOLERANCE, segment_sizes, standardize, turn_segments
from mica_ray.credit.returns import discounted_returns
from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True)
class TurnGae:
    """Estimate advantages by temporal differences of a critic on state and turn index.

        d[i, t] = r[i, t] + gamma V(s[i, t+1]) - V(s[i, t])
        A[i, t] = sum_{k >= 0} (gamma lam)^k d[i, t+k]              GAE, arXiv 1506.02438, over turns
        V_i(s, t) = b_t + w . s      ridge regression on the returns of the batch's other dialogues

    V is 0 after the last turn, and at a turn that no other dialogue of the batch reached. The critic of a
    dialogue is fitted without it, so at gamma = lam = 1 and without whitening the expected gradient is the
    policy gradient; lam < 1 adds the critic's errors. A hole (a failed judgement) is skipped with reward 0.
    Unlike a PPO critic, this one is fitted to a single batch.

    With a constant state, V is the mean return of the others at the turn, here (2, 0) and (4, 4):

    >>> turns = TurnRewards(
    ...     np.array([[0.0, 4.0], [2.0, 0.0]]), np.ones((2, 2), bool), np.zeros(2, int), np.zeros((2, 2, 1))
    ... )
    >>> TurnGae(lam=0, whiten=False)(turns)    # 0 + 0 - 2, 4 - 0;  2 + 4 - 4, 0 - 4
    array([[-2.,  4.],
           [ 2., -4.]])
    """

    gamma: float = 1.0
    """Discount per turn, in [0, 1]."""
    lam: float = 0.95
    """GAE's lambda, in [0, 1]: 1 uses only measured rewards, 0 one reward and the critic's next value."""
    ridge: float = 0.01
    """Penalty on the slopes as a share of each state component's sum of squares, finite and > 0."""
    whiten: bool = True
    """Whether to centre and scale the advantages over the batch, as PPO does."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        within(0, 1, gamma=self.gamma, lam=self.lam)
        above(0, ridge=self.ridge)
        if math.isinf(self.ridge):
            raise ValueError(f"ridge must be finite, got {self.ridge}.")

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Compute the advantage of every turn.

        Args:
            turns: rewards and states of one step.

        Returns:
            [B, T] float64, dimensionless if whitened and otherwise in reward units, 0 where not valid.

        Raises:
            ValueError: the states are missing, or a reward or state of a valid turn is not finite.
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
    """Compute the value of each turn by a ridge regression on the other dialogues of the batch.

        V_i(s, t) = mean_t + w_i . (s - mean state_t),   means over the other dialogues at turn t
        w_i = (C_i + ridge diag C_i)^-1 c_i              C_i, c_i: their covariances within turns

    All fits together cost one regression: the contribution of dialogue i is subtracted from the shared sums.

    Args:
        turns: rewards and states of one step.
        returns: [B, T], reward units, 0 where not valid.
        ridge: penalty as a share of diag C.

    Returns:
        [B, T] float64, reward units, 0 where not valid or where no other dialogue reached the turn.

    Raises:
        ValueError: the states are missing, or a reward or state of a valid turn is not finite.
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
    """Fit w_i for every dialogue from deviations from the mean of the others at the same turn.

    With x' = x - mean_{j != i} x_j and share = (n - 1) / n, the sum of squares of a turn is sum (share x')^2.
    Without member i it is smaller by share x'^2.

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
    # A component without variation has no slope; any penalty keeps the system solvable.
    varies = diagonal > CONSTANT_TOLERANCE * max(1.0, float(diagonal.max(initial=0.0)))
    penalty = np.where(varies, ridge * diagonal, 1.0)
    system = covariance + penalty[..., None] * np.eye(states.shape[2])
    slopes = np.empty_like(with_return)
    slopes[:] = np.linalg.solve(system, with_return[..., None])[..., 0]
    return slopes
