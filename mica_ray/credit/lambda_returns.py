"""A family of estimators with MICA, REINFORCE++ and GAE as special cases.

It bootstraps from the mean return of the siblings. credit/normalize.py has the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np

from mica_ray.checks import one_of, within
from mica_ray.credit.mica import Scope
from mica_ray.credit.normalize import Baseline, group_segments, segment_sizes, standardize, turn_segments
from mica_ray.credit.returns import discounted_returns
from mica_ray.types import TurnRewards


@dataclass(frozen=True, slots=True)
class LambdaReturns:
    """Mix two comparisons of lambda-returns: at the same turn, and over the group or batch.

        A[i, t] = alpha S_turn(L[i, t]) + (1 - alpha) S_scope(D[i, t])
        L[i, t] = r[i, t] + gamma ((1 - turn_lambda) m_{t+1} + turn_lambda L[i, t+1])    0 after the last turn
        D[i, t] = sum_{s >= t} (gamma group_lambda)^(s - t) r[i, s]
        m_t     = mean return of the siblings that reached turn t;  S: subtract the mean, divide if `divide`

    turn_lambda as in TD(lambda) (Sutton 1988): 1 uses the measured rewards after a turn, 0 the siblings' mean
    of them. Nothing is bootstrapped after a dialogue's last turn, so ending and continuing get different
    credit at every lambda.

        estimator                           alpha  gamma  turn_lambda  group_lambda  scope  baseline, divide
        MICA (2603.06194)                   0.5    0.85   1            0             group  mean, yes
          its turn term / its group term    1 / 0  0.85   1 / any      any / 0       group  mean, yes
        REINFORCE++, batch-normalized IDR   0      any    any          0             batch  mean, yes
        REINFORCE++ returns (2501.03262)    0      1      any          1             batch  mean, yes
        ReturnToGo (leave-one-out)          1      1      1            any           any    leave_one_out, no
        GAE, siblings' mean as the value    1      gamma  lambda       any           any    mean, no

    GRPO and RLOO are members only for dialogues of one turn: they also count rewards before a turn.

    >>> turns = TurnRewards(np.array([[0.0, 4.0], [2.0, 0.0]]), np.ones((2, 2), bool), np.zeros(2, int))
    >>> LambdaReturns(alpha=1, gamma=1, turn_lambda=0, divide=False)(turns)    # L = 0 + m_1, 2 + m_1; 4, 0
    array([[-1.,  2.],
           [ 1., -2.]])
    """

    alpha: float = 0.5
    """Weight of the comparison at the same turn, in [0, 1]."""
    gamma: float = 0.85
    """Discount per turn, in [0, 1]."""
    turn_lambda: float = 1.0
    """Lambda of the comparison at the same turn, in [0, 1]. Below 1 there is less noise, but the siblings'
    mean ignores what an early reply changed, so the bootstrapped share of its credit is lost."""
    group_lambda: float = 0.0
    """Lambda of the comparison over `scope`, in [0, 1]: an additional discount without bootstrapping."""
    scope: Scope = "group"
    """Turns of the second comparison: those of the group, or of the whole batch."""
    baseline: Baseline = "mean"
    """What is subtracted. "leave_one_out" also excludes a dialogue's own return from m. It is unbiased only
    at alpha = gamma = turn_lambda = 1 with divide=False, and where a sibling reached the turn."""
    divide: bool = True
    """Whether to divide by the standard deviations."""

    def __post_init__(self) -> None:
        """Check names and ranges."""
        within(0, 1, alpha=self.alpha, gamma=self.gamma)
        within(0, 1, turn_lambda=self.turn_lambda, group_lambda=self.group_lambda)
        one_of(get_args(Scope), scope=self.scope)
        one_of(get_args(Baseline), baseline=self.baseline)

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Compute the advantage of every turn.

        Args:
            turns: rewards of one step.

        Returns:
            [B, T] float64, dimensionless if divided and otherwise in reward units, 0 where not valid.

        Raises:
            ValueError: a valid reward is not finite.
        """
        num_turns = turns.rewards.shape[1]
        same_group = group_segments(turns.group, num_turns)
        scope = same_group if self.scope == "group" else np.zeros_like(same_group)
        followed = bootstrapped_returns(
            turns, gamma=self.gamma, turn_lambda=self.turn_lambda, baseline=self.baseline
        )
        decayed = discounted_returns(turns.rewards, turns.valid, gamma=self.gamma * self.group_lambda)

        def compare(values: np.ndarray, segments: np.ndarray) -> np.ndarray:
            return standardize(
                values, turns.valid, segments=segments, baseline=self.baseline, divide=self.divide
            )

        at_same_turn = compare(followed, turn_segments(turns.group, num_turns))
        return self.alpha * at_same_turn + (1.0 - self.alpha) * compare(decayed, scope)


def bootstrapped_returns(
    turns: TurnRewards, *, gamma: float, turn_lambda: float, baseline: Baseline = "mean"
) -> np.ndarray:
    """Compute lambda-returns that bootstrap from the mean return of the siblings.

    A dialogue reaches all turns up to its last valid one; a hole among them has reward 0. If "leave_one_out"
    finds no sibling, the dialogue's own lambda-return replaces the mean.

    Args:
        turns: rewards of one step.
        gamma: discount per turn.
        turn_lambda: weight of the measured rewards after a turn; the siblings' mean has the rest.
        baseline: "mean" includes the dialogue itself in the siblings' mean, "leave_one_out" excludes it.

    Returns:
        [B, T] float64, reward units, 0 where not valid.
    """
    earned = np.where(turns.valid, turns.rewards, 0.0).astype(np.float64)
    num_turns = earned.shape[1]
    reached = np.cumsum(turns.valid[:, ::-1], axis=1)[:, ::-1] > 0
    returns = discounted_returns(earned, reached, gamma=gamma)
    same_turn = turn_segments(turns.group, num_turns)
    count = segment_sizes(reached, same_turn)
    sums = np.bincount(same_turn.reshape(-1), weights=returns.reshape(-1))[same_turn]
    if baseline == "mean":
        mean, has_mean = sums / np.maximum(count, 1), count > 0
    else:
        mean, has_mean = (sums - returns) / np.maximum(count - 1, 1), count > 1
    bootstrapped = np.zeros_like(earned)
    later = np.zeros(earned.shape[0])
    for t in range(num_turns - 1, -1, -1):
        bootstrapped[:, t] = np.where(reached[:, t], earned[:, t] + gamma * later, 0.0)
        value = np.where(has_mean[:, t], mean[:, t], bootstrapped[:, t])
        mixed = (1.0 - turn_lambda) * value + turn_lambda * bootstrapped[:, t]
        later = np.where(reached[:, t], mixed, 0.0)
    return np.where(turns.valid, bootstrapped, 0.0)
