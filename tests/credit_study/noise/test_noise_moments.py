"""Noise of judgements: its moments by hand, its path into rewards, and z-scores of noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mica_ray.credit_study.noise.judge_noise import JudgeNoise, confused, gaussian
from mica_ray.credit_study.noise.paths import JudgedPaths, regrouped
from mica_ray.credit_study.noise.propagation import propagate
from mica_ray.credit_study.noise.unit_vectors import unit_moments
from mica_ray.rewards import Rewards


def path_of(
    *states: tuple[float, float, float], progress: int = 0, regress: int = 0, lost: tuple[int, ...] = ()
) -> JudgedPaths:
    """Return one dialogue with the same levels at every turn."""
    num_turns = len(states) - 1
    valid = np.array([[turn not in lost for turn in range(num_turns)]])
    levels = np.ones((1, num_turns, 3))
    return JudgedPaths(
        np.array([states]), progress * levels, regress * levels, valid, np.zeros(1, int), np.zeros(1, int)
    )


def test_confused_level_has_the_moments_of_its_points() -> None:
    # Progress 1 (1 point) moves to 0 or 2 (0 or 3 points) with 0.1 each: mean 0.1, square 0.5.
    # Regress 0 moves to -1 with 0.2: -2 points, mean -0.4, square 0.8. Together 0.49 + 0.64 = 1.13.
    paths = path_of((-9, -9, -9), (-8, -8, -8), progress=1)
    mean, covariance = confused(neighbour=0.2).moments(paths)
    np.testing.assert_allclose(mean[0, 0], -0.3)
    np.testing.assert_allclose(covariance[0, 0], 1.13 * np.eye(3), atol=1e-12)
    # A strong regress costs 4 points on C and 5 on A; from -2 the only neighbour is -1: +2 and +3.
    mean, _ = confused(neighbour=0.2).moments(path_of((-9, -9, -9), (-8, -8, -8), regress=-2))
    np.testing.assert_allclose(mean[0, 0, :2], [0.2 * 2 + 0.2 * 1, 0.2 * 3 + 0.2 * 1])


def test_drawn_noise_has_its_moments() -> None:
    states = np.repeat([[-20.0, -20.0, -20.0]], 20_001, axis=0)
    paths = path_of(*map(tuple, states), progress=1)
    covariance = np.array([[1.0, 0.5, 0.0], [0.5, 2.0, 0.0], [0.0, 0.0, 0.0]])
    base = JudgeNoise(tuple(map(tuple, covariance.tolist())))
    noise = confused(neighbour=0.2, anywhere=0.1, noise=base)
    drawn = noise.draw(paths, np.random.default_rng(0))[0]
    mean, expected = noise.moments(paths)
    # 20,000 draws: 0.05 is four standard errors of a mean, and 0.15 of a variance of 3.
    np.testing.assert_allclose(drawn.mean(axis=0), mean[0, 0], atol=0.05)
    np.testing.assert_allclose(np.cov(drawn, rowvar=False), expected[0, 0], atol=0.15)


@pytest.mark.parametrize(
    ("noise", "named"),
    [
        (lambda: gaussian((1.0, -0.1, 1.0)), "-0.1"),
        (lambda: JudgeNoise(((1.0, 2.0, 0.0), (2.0, 1.0, 0.0), (0.0, 0.0, 1.0))), "negative"),
        (lambda: JudgeNoise(((1.0,),)), "3 x 3"),
        (lambda: confused(neighbour=1.1), "1.1"),
        (lambda: JudgeNoise(gaussian((1, 1, 1)).covariance, ((0.5, 0.4, 0.0),) * 3), "sum to 1"),
    ],
)
def test_impossible_noise_is_refused(noise: object, named: str) -> None:
    assert callable(noise)
    with pytest.raises(ValueError, match=named):
        noise()


def test_error_of_summed_increments_is_that_of_their_turn() -> None:
    paths = path_of((-9, -9, -9), (-8, -8, -8), (-8, -8, -8), (-7, -7, -7), lost=(1,))
    error = propagate(paths, gaussian((1.0, 2.0, 2.0)), Rewards("sum"))
    # 1 + 4 + 4 per judged turn, independent; none at the lost turn.
    np.testing.assert_allclose(error.covariance[0], np.diag([9.0, 0.0, 9.0]), atol=1e-12)
    np.testing.assert_allclose(error.shift, 0.0, atol=1e-12)
    assert error.size == pytest.approx(3.0)


def test_distance_along_one_axis_adds_up_the_errors() -> None:
    # Only C is outside the zone, by far: D = -1 - C, and its error is the sum of the errors of C so far.
    paths = path_of((-50, 40, 40), (-48, 40, 40), (-46, 40, 40))
    noise = gaussian((2.0, 1.0, 1.0))
    absolute = propagate(paths, noise, Rewards("adr"))
    np.testing.assert_allclose(absolute.covariance[0], [[4.0, 4.0], [4.0, 8.0]], rtol=0.01)
    increments = propagate(paths, noise, Rewards("idr"))
    np.testing.assert_allclose(increments.covariance[0], [[4.0, 0.0], [0.0, 4.0]], atol=0.05)


def test_need_that_is_met_adds_no_noise() -> None:
    paths = path_of((40, 40, 40), (41, 41, 41))
    assert propagate(paths, gaussian((1.0, 1.0, 1.0)), Rewards()).size == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    "rewards",
    [Rewards(), Rewards(distance="norm"), Rewards("adr"), Rewards("potential", gamma=0.85)],
    ids=lambda one: f"{one.kind}-{one.distance}",
)
def test_propagated_moments_agree_with_drawn_noise(rewards: Rewards) -> None:
    # From a deep deficit, across the border of the zone on A.
    paths = path_of((-9, -4, -12), (-8, -2, -10), (-6, -1, -9), (-5, 0, -7))
    noise = gaussian((1.0, 1.0, 1.0))
    error = propagate(paths, noise, rewards)
    many = JudgedPaths(
        *(np.repeat(each, 20_000, axis=0) for each in (paths.states, paths.progress, paths.regress)),
        valid=np.ones((20_000, 3), bool),
        group=np.arange(20_000),
        batch=np.zeros(20_000, int),
    )
    drawn = many.turns(rewards, error=noise.draw(many, np.random.default_rng(0))).rewards
    drawn -= paths.turns(rewards).rewards
    scale = float(drawn.std())
    np.testing.assert_allclose(error.shift[0], drawn.mean(axis=0), atol=0.05 * scale)
    # First order at a border of the zone: within a tenth.
    np.testing.assert_allclose(error.covariance[0], np.cov(drawn, rowvar=False), atol=0.1 * scale**2)


def test_sign_of_a_noisy_difference() -> None:
    # Two values 1 apart, noise of SD 1 each: the difference has SD sqrt(2); E[z] = 2 F(1 / sqrt(2)) - 1.
    centring = np.eye(2) - 0.5
    unit = unit_moments(np.array([0.5, -0.5]), centring)
    expected = math.erf(0.5)
    np.testing.assert_allclose(math.sqrt(2) * unit.direction, [expected, -expected], atol=1e-9)
    np.testing.assert_allclose(unit.square, 0.5)


def test_pure_noise_has_no_direction_and_full_length() -> None:
    unit = unit_moments(np.zeros(4), 9.0 * (np.eye(4) - 0.25))
    np.testing.assert_allclose(unit.direction, 0.0, atol=1e-12)
    np.testing.assert_allclose(unit.square, 0.25, atol=1e-9)
    # E|y| in 3 dimensions of SD 3: 3 sqrt(8 / pi).
    assert np.trace(unit.with_vector) == pytest.approx(3 * math.sqrt(8 / math.pi))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_without_noise_the_direction_is_that_of_the_mean(scale: float) -> None:
    unit = unit_moments(scale * np.array([3.0, -4.0]), np.zeros((2, 2)))
    np.testing.assert_allclose(unit.direction, [0.6, -0.8], atol=1e-9)
    np.testing.assert_allclose(unit.square, [0.36, 0.64], atol=1e-9)
    assert not unit_moments(np.zeros(2), np.zeros((2, 2))).direction.any()


def test_groups_of_another_size_keep_the_order_of_cases() -> None:
    rows = np.arange(7)
    paths = JudgedPaths(
        states=np.repeat(rows[:, None, None], 3, axis=2).repeat(2, axis=1).astype(float),
        progress=np.zeros((7, 1, 3)),
        regress=np.zeros((7, 1, 3)),
        valid=np.ones((7, 1), bool),
        group=np.array([1, 0, 1, 0, 2, 2, 2]),
        batch=np.array([0, 0, 0, 0, 1, 1, 1]),
    )
    joined, left_out = regrouped(paths, 2)
    # Batch 0 by group: 1, 3 | 0, 2. Batch 1 has three dialogues, and one is left out.
    assert joined.states[:, 0, 0].tolist() == [1, 3, 0, 2, 4, 5]
    assert (joined.group.tolist(), left_out) == ([0, 0, 1, 1, 2, 2], 1)
    assert regrouped(paths, 4)[0].states[:, 0, 0].tolist() == [1, 3, 0, 2]
    with pytest.raises(ValueError, match="No batch has 5"):
        regrouped(paths, 5)
    with pytest.raises(ValueError, match="size"):
        regrouped(paths, 1)
