"""From the error of judgements to the error of turn rewards: mean and covariance, without sampling.

The error of v_t stays in all later states, so rewards of one dialogue have correlated errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from mica_ray.credit_study.noise.judge_noise import JudgeNoise
from mica_ray.credit_study.noise.paths import JudgedPaths
from mica_ray.rewards import Rewards

_ZONE = 1.0
"""Deficit in points that `zone_distance` tolerates on each axis."""


@dataclass(frozen=True, slots=True, eq=False)
class RewardNoise:
    """Mean and covariance of the error of the rewards of B dialogues with T turns."""

    shift: np.ndarray
    """[B, T], reward units; the distance of a noisy state is larger on average."""
    covariance: np.ndarray
    """[B, T, T], reward units squared; 0 where a turn was not judged."""

    @property
    def size(self) -> float:
        """Root mean square of the standard deviations of single rewards, reward units."""
        variances = np.diagonal(self.covariance, axis1=1, axis2=2)
        noisy = variances[variances > 0]
        return float(np.sqrt(noisy.mean())) if noisy.size else 0.0


def propagate(paths: JudgedPaths, noise: JudgeNoise, rewards: Rewards) -> RewardNoise:
    """Compute how the error of v_t appears in the rewards.

        P'_t = P_t + W_t,   W_t = sum_{s <= t} e_s,   S_t = sum_{s <= t} Cov(e_s)
        f(P'_t) ~ mean_t + g_t . (W_t - E W_t) + sum_{s <= t} (g'_s - g_s) . e_s
        Cov(f'_s, f'_t) = g_s' S_min(s,t) g_t + sum_{u <= min(s,t)} sum_k Var(e_u,k) Var(g'_u,k)
        r_t = b f_{t-1} + a f_t        f: distance, potential or sum; b, a by kind of reward

    First order, with g the gradient averaged over the noise (`_zone`): one at the recorded state is wrong
    where an axis is about to leave or enter the zone. The last sum is the noise that a noisy gradient g'
    adds to each turn. The potential is less nearly linear: on the recorded EMPA runs with noise of SD 1, its
    predicted correlations are up to 0.04 too high, those of the other rewards at most 0.01.

    Args:
        paths: the recorded dialogues, taken as the truth.
        noise: error of the judge.
        rewards: reward of a turn.
    """
    mean, covariance = noise.moments(paths)
    start = ((0, 0), (1, 0), (0, 0))
    reached = np.pad(np.cumsum(covariance, axis=1), (*start, (0, 0)))
    states = paths.states + np.pad(np.cumsum(mean, axis=1), start)
    own = np.pad(np.diagonal(covariance, axis1=2, axis2=3), start)
    value, gradient, turning = _feature(states, reached, own, rewards)
    earlier = np.einsum("bsk,bskl,btl->bst", gradient, reached, gradient) + turning[:, :, None]
    upper = np.triu(np.ones(earlier.shape[1:], dtype=bool))
    of_value = np.where(upper, earlier, np.swapaxes(earlier, 1, 2))
    before, after = _coefficients(rewards)
    expected = before * value[:, :-1] + after * value[:, 1:]
    recorded = np.stack([rewards.of_path(path) for path in paths.states])
    both = before * after * (of_value[:, :-1, 1:] + of_value[:, 1:, :-1])
    of_reward = before**2 * of_value[:, :-1, :-1] + after**2 * of_value[:, 1:, 1:] + both
    pair = paths.valid[:, :, None] & paths.valid[:, None, :]
    return RewardNoise(
        shift=np.where(paths.valid, expected - recorded, 0.0), covariance=np.where(pair, of_reward, 0.0)
    )


def _coefficients(rewards: Rewards) -> tuple[float, float]:
    """Return b and a of r_t = b f_{t-1} + a f_t."""
    if rewards.kind == "potential":
        return -1.0, 1.0 if rewards.gamma is None else rewards.gamma
    return {"idr": (1.0, -1.0), "adr": (0.0, -1.0), "sum": (-1.0, 1.0)}[rewards.kind]


def _feature(
    states: np.ndarray, covariance: np.ndarray, own: np.ndarray, rewards: Rewards
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean of f [B, T+1], averaged gradient [B, T+1, K], and noise of the gradient [B, T+1].

    Args:
        states: [B, T+1, K], mean noisy states.
        covariance: [B, T+1, K, K], of the noisy states.
        own: [B, T+1, K], variance that each turn adds.
        rewards: the kind of reward.
    """
    if rewards.kind == "sum":
        return states.sum(axis=-1), np.ones(states.shape), np.zeros(states.shape[:2])
    variance = np.diagonal(covariance, axis1=2, axis2=3)
    is_zone = rewards.kind != "potential" and rewards.distance == "zone"
    deficit, square = _zone_deficit(states, variance) if is_zone else (-states, states**2 + variance)
    # E D^2 = Q, gradient_k = -E m_k / sqrt(Q) and E gradient_k^2 = E m_k^2 / Q.
    total = np.maximum(square.sum(axis=-1), 1e-12)
    gradient = -deficit / np.sqrt(total)[..., None]
    of_gradient = np.maximum(square / total[..., None] - gradient**2, 0.0)
    turning = np.cumsum((own * of_gradient).sum(axis=-1), axis=1)
    spread = np.einsum("bsk,bskl,bsl->bs", gradient, covariance, gradient) + turning
    distance = np.sqrt(np.maximum(total - spread, 0.0))
    if rewards.kind != "potential":
        return distance, gradient, turning
    # Phi(n) = c / (c + n): second order for the mean, first order for the gradient.
    phi = rewards.scale / (rewards.scale + distance)
    slope = -phi / (rewards.scale + distance)
    mean = phi - slope / (rewards.scale + distance) * spread
    return mean, slope[..., None] * gradient, slope**2 * turning


def _zone_deficit(states: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and mean square of the deficits that count in the zone distance, [B, T+1, K].

        m_k = max(0, -1 - x_k):   E m = d F + s f,   E m^2 = (d^2 + s^2) F + d s f,   d = -1 - E x_k

    F and f are the normal distribution function and density at d / s.
    """
    from scipy.special import ndtr

    deficit = -_ZONE - states
    spread = np.sqrt(np.maximum(variance, 1e-18))
    ratio = np.clip(deficit / spread, -30.0, 30.0)
    density = np.exp(-0.5 * ratio**2) / np.sqrt(2 * pi)
    below = ndtr(ratio)
    mean = np.maximum(deficit * below + spread * density, 0.0)
    square = np.maximum((deficit**2 + variance) * below + deficit * spread * density, 0.0)
    return mean, square
