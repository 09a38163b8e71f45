"""The error of a judge as a model: Gaussian noise on the increments v_t, and levels that are confused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mica_ray.checks import within
from mica_ray.credit_study.noise.paths import JudgedPaths
from mica_ray.domains.empa import EMPA

NUM_LEVELS = 3
"""Levels of one side of an axis."""

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class JudgeNoise:
    """What a judge's answer differs from the truth by, independent between turns.

        v'_t = v_t + e_t,  e_t ~ N(0, covariance) + points(confused levels) - points(levels)

    Each of the six levels of a judgement is confused independently. `gaussian` and `confused` build the two
    parts; a judge may have both.
    """

    covariance: Matrix
    """[K][K], points squared, symmetric and without negative eigenvalues."""
    confusion: Matrix = tuple(map(tuple, np.eye(NUM_LEVELS).tolist()))
    """[3][3], probability that a level of this absolute value (row) is judged as that one (column)."""

    def __post_init__(self) -> None:
        """Check both matrices."""
        covariance, confusion = np.array(self.covariance), np.array(self.confusion)
        if covariance.shape != (len(EMPA.axes),) * 2 or not np.allclose(covariance, covariance.T):
            raise ValueError(f"covariance must be symmetric, 3 x 3, got {self.covariance}.")
        if not np.isfinite(covariance).all() or np.linalg.eigvalsh(covariance).min() < -1e-9:
            raise ValueError(f"covariance must have no negative variance, got {self.covariance}.")
        if confusion.shape != (NUM_LEVELS,) * 2 or not np.allclose(confusion.sum(axis=1), 1.0):
            raise ValueError(f"confusion must be 3 x 3 with rows that sum to 1, got {self.confusion}.")
        if confusion.min() < 0:
            raise ValueError(f"confusion must not be negative, got {self.confusion}.")

    def moments(self, paths: JudgedPaths) -> tuple[np.ndarray, np.ndarray]:
        """Return mean [B, T, K] and covariance [B, T, K, K] of e_t; 0 where not judged."""
        mean, variance = np.zeros_like(paths.progress), np.zeros_like(paths.progress)
        for (levels, points), axis in _sides(paths):
            confusion = np.array(self.confusion)
            moved = points[None, :] - points[:, None]
            first = (confusion * moved).sum(axis=1)
            spread = (confusion * moved**2).sum(axis=1) - first**2
            mean[..., axis] += first[levels]
            variance[..., axis] += spread[levels]
        covariance = variance[..., None] * np.eye(len(EMPA.axes)) + np.array(self.covariance)
        judged = paths.valid[..., None]
        return np.where(judged, mean, 0.0), np.where(judged[..., None], covariance, 0.0)

    def draw(self, paths: JudgedPaths, generator: np.random.Generator) -> np.ndarray:
        """Draw e_t of every turn: [B, T, K], points; arbitrary where not judged."""
        shape = paths.progress.shape
        # A zero variance is allowed, which Cholesky's method would reject.
        variances, axes = np.linalg.eigh(np.array(self.covariance))
        root = axes * np.sqrt(np.maximum(variances, 0.0))
        error = generator.standard_normal(shape) @ root.T
        bounds = np.cumsum(np.array(self.confusion), axis=1)[:, :-1]
        for (levels, points), axis in _sides(paths):
            judged = (generator.random(levels.shape)[..., None] >= bounds[levels]).sum(axis=-1)
            error[..., axis] += points[judged] - points[levels]
        return error

    def size(self, paths: JudgedPaths) -> np.ndarray:
        """Return the standard deviation of e_t per axis over the judged turns, its mean excluded: [K]."""
        covariance = self.moments(paths)[1][paths.valid]
        return np.sqrt(np.diagonal(covariance, axis1=1, axis2=2).mean(axis=0))


def gaussian(sd: tuple[float, float, float]) -> JudgeNoise:
    """Return noise with a standard deviation per axis, in points, independent between the axes.

    Raises:
        ValueError: a standard deviation is negative or not finite.
    """
    if min(sd) < 0 or not np.isfinite(sd).all():
        raise ValueError(f"The noise must be finite and >= 0 on every axis, got {sd}.")
    return JudgeNoise(tuple(map(tuple, np.diag(np.square(sd)).tolist())))


def confused(*, neighbour: float = 0.0, anywhere: float = 0.0, noise: JudgeNoise | None = None) -> JudgeNoise:
    """Return noise in which levels are confused.

    Args:
        neighbour: probability that a level moves to a neighbour; level 1 moves to either with half of it.
        anywhere: probability that a level is then drawn from all three with equal probability.
        noise: whose Gaussian part is kept; None for no Gaussian part.

    Raises:
        ValueError: a probability is outside [0, 1].
    """
    within(0, 1, neighbour=neighbour, anywhere=anywhere)
    step = np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    moved = (1 - neighbour) * np.eye(NUM_LEVELS) + neighbour * step
    matrix = (1 - anywhere) * moved + anywhere / NUM_LEVELS
    base = noise or gaussian((0.0, 0.0, 0.0))
    return JudgeNoise(base.covariance, tuple(map(tuple, matrix.tolist())))


def _sides(paths: JudgedPaths) -> list[tuple[tuple[np.ndarray, np.ndarray], int]]:
    """Return ((absolute levels [B, T], points [3]), number of the axis) for both sides of every axis."""
    return [
        ((np.abs(levels[..., number]).astype(np.int64), np.array(points)), number)
        for number, axis in enumerate(EMPA.axes)
        for levels, points in (
            (paths.progress, axis.progress_points),
            (paths.regress, axis.regress_points),
        )
    ]
