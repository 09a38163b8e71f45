"""Bias and noise of gradients whose distribution is known."""

from __future__ import annotations

import numpy as np
import pytest

from mica_ray.credit.oracle.bias import compare_gradients

EXACT = np.array([3.0, 4.0])


def drawn(mean: list[float], deviation: float, seed: int = 0) -> np.ndarray:
    return np.array(mean) + deviation * np.random.default_rng(seed).normal(size=(4000, 2))


def test_unbiased_noise_is_no_bias() -> None:
    bias = compare_gradients(drawn([3.0, 4.0], 1.0), EXACT)
    assert not bias.is_biased
    assert not bias.is_turned
    assert bias.kept == pytest.approx(1.0, abs=4 * bias.kept_error)
    # Two components of deviation 1 against a gradient of length 5: sqrt(2) / 5.
    assert bias.noise == pytest.approx(np.sqrt(2) / 5, abs=4 * bias.noise_error)
    # A deviation from 2 x 4000 normal numbers is known to about 1 / sqrt(2 x 8000) of itself; the jackknife
    # of 32 blocks finds that within a factor of two.
    assert 0.5 < bias.noise_error / (bias.noise / np.sqrt(16000)) < 2


def test_shrunken_gradient_is_biased_and_not_turned() -> None:
    bias = compare_gradients(drawn([1.5, 2.0], 0.5), EXACT)
    assert bias.is_biased
    assert not bias.is_turned
    assert bias.kept == pytest.approx(0.5, abs=4 * bias.kept_error)
    # At its best scale the noise doubles: that of deviation 1.
    assert bias.noise == pytest.approx(np.sqrt(2) / 5, rel=0.05)


def test_turned_gradient_shows_the_sine_of_its_angle() -> None:
    # (4, 3) against (3, 4): cosine 24/25, sine 7/25.
    bias = compare_gradients(drawn([4.0, 3.0], 0.1), EXACT)
    assert bias.is_turned
    assert bias.cosine == pytest.approx(24 / 25, abs=0.001)
    assert bias.direction_bias == pytest.approx(7 / 25, abs=4 * bias.direction_error)


def test_reversed_gradient_has_no_signal() -> None:
    bias = compare_gradients(drawn([-3.0, -4.0], 1.0), EXACT)
    assert not bias.has_signal
    assert bias.is_turned
    assert (bias.direction_bias, bias.noise) == (1.0, np.inf)


def test_gradient_that_is_always_zero_is_infinitely_far_off() -> None:
    bias = compare_gradients(np.zeros((100, 2)), EXACT)
    assert bias.z == np.inf
    assert not bias.has_signal


def test_z_is_standard_normal_when_there_is_no_bias() -> None:
    z = [compare_gradients(drawn([3.0, 4.0], 1.0, seed)[:400], EXACT).z for seed in range(100)]
    # 100 draws: mean within 4 / sqrt(100), deviation within 4 / sqrt(200).
    assert abs(np.mean(z)) < 0.4
    assert np.std(z) == pytest.approx(1.0, abs=0.28)


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"estimates must be 64 or more.*got 10 estimates"):
        compare_gradients(np.zeros((10, 2)), EXACT)
