"""Measure the correlation of noisy with noise-free advantages by drawing the noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mica_ray.checks import at_least
from mica_ray.credit import CreditEstimator
from mica_ray.credit.estimator import trained_turns
from mica_ray.credit_study.measures import by_batch, correlation
from mica_ray.credit_study.noise.judge_noise import JudgeNoise
from mica_ray.credit_study.noise.paths import JudgedPaths
from mica_ray.rewards import Rewards


@dataclass(frozen=True, slots=True)
class MeasuredCorrelation:
    """Mean correlation over the draws, and its standard error; NaN without any spread."""

    mean: float
    error: float


def measure_correlations(
    estimators: Mapping[str, CreditEstimator],
    paths: JudgedPaths,
    noise: JudgeNoise,
    *,
    rewards: Rewards,
    draws: int,
    generator: np.random.Generator,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, MeasuredCorrelation]:
    """Add noise to the judgements, credit the turns again, and correlate with the noise-free advantages.

    Lengths stay as recorded, although other judgements might have ended a dialogue elsewhere.

    Args:
        estimators: by name; all see the same draws.
        paths: the recorded dialogues, taken as the truth.
        noise: error of the judge.
        rewards: reward of a turn.
        draws: number of draws of the noise of all turns, at least 2.
        generator: source of randomness.
        progress: called after every draw.
    """
    at_least(2, draws=draws)
    clean = paths.turns(rewards)
    trained = {name: trained_turns(one, clean) for name, one in estimators.items()}
    expected = {name: by_batch(one, clean, batch=paths.batch) for name, one in estimators.items()}
    found: dict[str, list[float]] = {name: [] for name in estimators}
    for _ in range(draws):
        noisy = paths.turns(rewards, error=noise.draw(paths, generator))
        for name, estimator in estimators.items():
            advantages = by_batch(estimator, noisy, batch=paths.batch)
            found[name].append(correlation(expected[name][trained[name]], advantages[trained[name]]))
        progress()
    return {
        name: MeasuredCorrelation(
            float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
        )
        for name, values in found.items()
    }
