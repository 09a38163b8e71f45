"""Compare gradient estimates with the exact gradient: share kept, angle, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

NUM_BLOCKS = 32
"""Number of blocks of the jackknife standard errors."""

DETERMINISTIC = 1e-12
"""A variance below this share of the largest one, or of the squared gradient, is rounding."""


@dataclass(frozen=True, slots=True)
class GradientBias:
    """Expectation E and noise of a gradient estimator compared with the exact gradient g.

    An estimator in reward units is unbiased if E = g: kept = 1 and a small z. A divided advantage is
    dimensionless, and Adam ignores the length of a gradient. Its bias is the direction, which no positive
    factor c corrects: min over c of |c E - g| / |g|, the sine of the angle. Both are computed for every
    estimator. Noise is measured at the best c.
    """

    kept: float
    """<E, g> / |g|^2, the component of E along g. 0.75: the gradient is shrunk by a quarter."""
    kept_error: float
    """Standard error of `kept`."""
    z: float
    """Omnibus test of E = g over all components, as a standard normal. Above 3: biased beyond noise."""
    cosine: float
    """Cosine of the angle between E and g; the length of E is corrected for noise."""
    direction_bias: float
    """Sine of the angle between E and g, corrected for noise; 1 if E has no component along g."""
    direction_error: float
    """Its standard error, by jackknife over blocks. Too small for a bias near 0; use `direction_z` there."""
    direction_z: float
    """Omnibus test that the component of E orthogonal to g is 0, as a standard normal."""
    noise: float
    """Standard deviation of one step's gradient at the best scale, as a share of |g|; infinite without
    signal. Near a right angle the best scale and so the noise are near 0; use `error` there."""
    noise_error: float
    """Standard error of `noise`, by jackknife over blocks."""

    @property
    def has_signal(self) -> bool:
        """Whether E points along g beyond noise."""
        return self.kept > 3 * self.kept_error and self.kept > 1e-9

    @property
    def is_biased(self) -> bool:
        """Whether E differs from g beyond noise."""
        return self.z > 3

    @property
    def is_turned(self) -> bool:
        """Whether the direction of E differs from that of g beyond noise, or E has no signal."""
        return self.direction_z > 3 or not self.has_signal

    @property
    def error(self) -> float:
        """Root mean square error of one step's gradient at the best scale, as a share of |g|.

        1 without signal: the best scale is then 0.
        """
        return math.hypot(self.direction_bias, self.noise) if self.has_signal else 1.0


def compare_gradients(estimates: np.ndarray, exact: np.ndarray) -> GradientBias:
    """Compare independent gradient estimates with the exact gradient.

    Args:
        estimates: [U, ...], one per step; U should be in the hundreds or more.
        exact: [...], not zero.

    Returns:
        The comparison; `noise` is the noise of one step.

    Raises:
        ValueError: fewer than two estimates per block, or an exact gradient of 0.
    """
    target, rows = exact.reshape(-1), estimates.reshape(len(estimates), -1)
    size = float(np.linalg.norm(target))
    if len(rows) < 2 * NUM_BLOCKS or size == 0:
        raise ValueError(
            f"estimates must be {2 * NUM_BLOCKS} or more, and the exact gradient not 0, "
            f"got {len(rows)} estimates and |g| = {size}."
        )
    mean, covariance = rows.mean(axis=0), np.cov(rows, rowvar=False).reshape(len(target), -1)
    of_mean = covariance / len(rows)
    along = target / size
    across = np.eye(len(target)) - np.outer(along, along)
    kept = float(mean @ along) / size
    kept_error = math.sqrt(max(0.0, float(along @ of_mean @ along))) / size
    cosine, direction_bias = _angle(mean, of_mean, along)
    has_signal = kept > 3 * kept_error and kept > 1e-9
    errors = _jackknife(rows, target) if has_signal else (0.0, 0.0)
    return GradientBias(
        kept=kept,
        kept_error=kept_error,
        z=_omnibus(mean - target, of_mean, size),
        cosine=cosine,
        direction_bias=direction_bias if has_signal else 1.0,
        direction_error=errors[0],
        direction_z=_omnibus(across @ mean, across @ of_mean @ across, size),
        noise=_noise(mean, covariance, target) if has_signal else math.inf,
        noise_error=errors[1],
    )


def _angle(mean: np.ndarray, of_mean: np.ndarray, along: np.ndarray) -> tuple[float, float]:
    """Return the cosine and sine of the angle between an expectation and a direction.

    Subtracts the noise, the trace of the covariance, from the squared length orthogonal to the direction.
    """
    part = float(mean @ along)
    noise_across = float(np.trace(of_mean)) - float(along @ of_mean @ along)
    across = math.sqrt(max(0.0, float(mean @ mean) - part**2 - noise_across))
    length = math.hypot(part, across)
    return (part / length, across / length) if length > 0 else (0.0, 1.0)


def _noise(mean: np.ndarray, covariance: np.ndarray, target: np.ndarray) -> float:
    """Return the standard deviation of c times one estimate over |g|, with c = <E, g> / |E|^2."""
    scale = float(mean @ target) / max(float(mean @ mean), 1e-300)
    return scale * math.sqrt(float(np.trace(covariance))) / float(np.linalg.norm(target))


def _jackknife(rows: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Return the standard errors of sine and noise, leaving out one block of steps at a time."""
    along = target / np.linalg.norm(target)
    sines, noises = np.empty(NUM_BLOCKS), np.empty(NUM_BLOCKS)
    for block, left_out in enumerate(np.array_split(np.arange(len(rows)), NUM_BLOCKS)):
        others = np.delete(rows, left_out, axis=0)
        mean, covariance = others.mean(axis=0), np.cov(others, rowvar=False).reshape(len(along), -1)
        sines[block] = _angle(mean, covariance / len(others), along)[1]
        noises[block] = _noise(mean, covariance, target)
    factor = math.sqrt(NUM_BLOCKS - 1)
    return factor * float(sines.std()), factor * float(noises.std())


def _omnibus(deviation: np.ndarray, covariance: np.ndarray, size: float) -> float:
    """Test whether a deviation is noise: Hotelling's T^2 as a standard normal.

    By the approximation of Wilson and Hilferty. Infinite for a deviation beyond rounding in a direction
    without noise.
    """
    variances, axes = np.linalg.eigh(covariance)
    noisy = variances > DETERMINISTIC * max(float(variances.max()), size**2)
    projected = axes.T @ deviation
    if np.linalg.norm(projected[~noisy]) > 1e-6 * size:
        return math.inf
    freedom = int(noisy.sum())
    if freedom == 0:
        return 0.0
    squared = float((projected[noisy] ** 2 / variances[noisy]).sum())
    spread = 2.0 / (9.0 * freedom)
    return ((squared / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
