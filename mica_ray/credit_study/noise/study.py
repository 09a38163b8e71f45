"""Predicted, and on request measured, correlation of advantages by estimator and group size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mica_ray.credit import CreditEstimator
from mica_ray.credit_study.noise.judge_noise import JudgeNoise
from mica_ray.credit_study.noise.measurement import MeasuredCorrelation, measure_correlations
from mica_ray.credit_study.noise.paths import JudgedPaths, regrouped
from mica_ray.credit_study.noise.prediction import predict_correlation
from mica_ray.credit_study.noise.propagation import propagate
from mica_ray.rewards import Rewards
from mica_ray.types import AXES


@dataclass(frozen=True, slots=True)
class EstimatorNoise:
    """Correlation of noisy with noise-free advantages of one estimator."""

    predicted: float
    """NaN for an estimator without a prediction."""
    measured: MeasuredCorrelation | None
    """None if nothing was drawn."""


@dataclass(frozen=True, slots=True)
class NoiseEffect:
    """The effect of a judge's noise at one group size."""

    group_size: int | None
    """None for the recorded groups."""
    num_groups: int
    num_left_out: int
    """Dialogues that fill no group."""
    noise_sd: tuple[float, ...]
    """Standard deviation of the error of v_t per axis, points."""
    reward_sd: float
    """Standard deviation of the error of a turn's reward, reward units."""
    estimators: Mapping[str, EstimatorNoise]


def study_noise(
    paths: JudgedPaths,
    estimators: Mapping[str, CreditEstimator],
    noise: JudgeNoise,
    *,
    rewards: Rewards,
    group_sizes: Sequence[int] = (),
    draws: int = 0,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> tuple[NoiseEffect, ...]:
    """Predict the correlation for every estimator and group size, and measure it with `draws` above 0.

    Args:
        paths: the recorded dialogues, taken as the truth.
        estimators: by name.
        noise: error of the judge.
        rewards: reward of a turn.
        group_sizes: each at least 2; empty for the recorded groups.
        draws: number of draws of the noise, 0 or at least 2.
        seed: of the draws.
        progress: called after every prediction and every draw.

    Raises:
        ValueError: a group size does not fit the dialogues.
    """
    effects: list[NoiseEffect] = []
    for size in group_sizes or (None,):
        chosen, left_out = (paths, 0) if size is None else regrouped(paths, size)
        error = propagate(chosen, noise, rewards)
        predicted: dict[str, float] = {}
        for name, estimator in estimators.items():
            predicted[name] = predict_correlation(estimator, chosen.turns(rewards), error, batch=chosen.batch)
            progress()
        measured: Mapping[str, MeasuredCorrelation] = {}
        if draws:
            generator = np.random.default_rng(seed)
            measured = measure_correlations(
                estimators,
                chosen,
                noise,
                rewards=rewards,
                draws=draws,
                generator=generator,
                progress=progress,
            )
        found = {name: EstimatorNoise(predicted[name], measured.get(name)) for name in estimators}
        num_groups = len(np.unique(chosen.group))
        noise_sd = tuple(noise.size(chosen).tolist())
        effects.append(NoiseEffect(size, num_groups, left_out, noise_sd, error.size, found))
    return tuple(effects)


def effect_record(effects: Sequence[NoiseEffect]) -> dict[str, object]:
    """Return the JSON form, by group size; NaN where there is no prediction."""
    return {
        "group_sizes": {
            "recorded" if effect.group_size is None else str(effect.group_size): {
                **{key: value for key, value in asdict(effect).items() if key != "group_size"},
                "noise_sd": dict(zip(AXES, effect.noise_sd, strict=True)),
            }
            for effect in effects
        }
    }
