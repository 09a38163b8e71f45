"""Predicted correlation of noisy and noise-free advantages: by hand, and on the recorded EMPA runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mica_ray.credit import (
    CreditEstimator,
    Grpo,
    LambdaReturns,
    Mica,
    ReinforcePlusPlus,
    ReturnToGo,
    Rloo,
    TurnGae,
)
from mica_ray.credit_study.noise.judge_noise import JudgeNoise, confused, gaussian
from mica_ray.credit_study.noise.measurement import measure_correlations
from mica_ray.credit_study.noise.paths import JudgedPaths, judged_paths, regrouped
from mica_ray.credit_study.noise.prediction import predict_correlation
from mica_ray.credit_study.noise.propagation import RewardNoise, propagate
from mica_ray.credit_study.noise.study import study_noise
from mica_ray.recordings.recorded_turns import read_recorded_turns
from mica_ray.rewards import Rewards
from mica_ray.types import TurnRewards

WITHIN = 0.02
"""Largest difference of predicted and measured correlation that the project accepts."""


def predicted(
    estimator: CreditEstimator, rewards: list[list[float]], variance: float, *, group: list[int] | None = None
) -> float:
    values = np.array(rewards)
    turns = TurnRewards(values, np.ones(values.shape, bool), np.array(group or [0] * len(values)))
    covariance = np.broadcast_to(variance * np.eye(values.shape[1]), (*values.shape, values.shape[1]))
    noise = RewardNoise(np.zeros(values.shape), covariance)
    return predict_correlation(estimator, turns, noise, batch=np.zeros(len(values), int))


def test_undivided_advantages_lose_the_share_of_noise() -> None:
    # A = +1, -1; the noise of R - mean has variance (1 - 1/2) 3 in each: sqrt(2 / (2 + 3)).
    expected = math.sqrt(2 / 5)
    for estimator in (Rloo(), Grpo(divide=False), ReturnToGo(), Mica(alpha=1, divide=False)):
        assert predicted(estimator, [[1.0], [-1.0]], 3.0) == pytest.approx(expected)


def test_divided_pair_keeps_its_size_and_gets_the_wrong_sign_at_random() -> None:
    # The difference 2 has noise of SD sqrt(2 x 3): right with probability F(2 / sqrt(6)); A is 1 or -1.
    right = 0.5 * (1 + math.erf(2 / math.sqrt(6) / math.sqrt(2)))
    for estimator in (Grpo(), Mica(alpha=1), ReinforcePlusPlus(), Mica(alpha=0)):
        assert predicted(estimator, [[1.0], [-1.0]], 3.0) == pytest.approx(2 * right - 1)


def test_near_tie_makes_divided_credit_worse_than_undivided() -> None:
    # One clear group and one near tie. Undivided, the near tie hardly counts; divided, it counts in full.
    rewards, group = [[5.0], [-5.0], [0.1], [-0.1]], [0, 0, 1, 1]
    divided = predicted(Grpo(), rewards, 0.25, group=group)
    # EPS in the divisor of the near tie, 0.1, leaves 1e-5.
    assert divided == pytest.approx((1 + math.erf(0.2)) / 2, abs=1e-5)
    assert predicted(Rloo(), rewards, 0.25, group=group) > 0.99


def test_without_noise_the_correlation_is_one() -> None:
    rewards = [[1.0, 2.0, 0.5], [0.0, -1.0, 3.0], [2.0, 2.5, -1.0]]
    for estimator in (Mica(), Mica(lone_turn="group"), Grpo(), ReturnToGo(), ReinforcePlusPlus("baseline")):
        # EPS in the divisor leaves 1e-6.
        assert predicted(estimator, rewards, 0.0) == pytest.approx(1.0, abs=1e-5)


def test_estimator_without_a_form_has_no_prediction() -> None:
    for estimator in (TurnGae(), LambdaReturns(turn_lambda=0.5)):
        assert math.isnan(predicted(estimator, [[1.0], [-1.0]], 1.0))
    assert math.isnan(predicted(Grpo(), [[1.0], [1.0]], 0.0))


@pytest.fixture(scope="module")
def recorded(benchmark_data: Path) -> JudgedPaths:
    return judged_paths(
        read_recorded_turns(sorted((benchmark_data / "empa" / "recorded_runs").glob("*.jsonl")))
    )


ESTIMATORS: dict[str, CreditEstimator] = {
    "turn": Mica(alpha=1),
    "mixed": Mica(),
    "mixed .25": Mica(alpha=0.25),
    "group": Mica(alpha=0),
    "return-to-go": ReturnToGo(),
    "grpo": Grpo(),
    "rloo": Rloo(),
    "reinforce++": ReinforcePlusPlus(),
    "reinforce++ idr": ReinforcePlusPlus("batch_idr"),
    "reinforce++ baseline": ReinforcePlusPlus("baseline"),
}


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize(
    "noise",
    [gaussian((0.3, 0.3, 0.3)), gaussian((0.5, 1.0, 2.0)), confused(neighbour=0.1), confused(anywhere=0.2)],
    ids=["small", "by axis", "neighbouring level", "any level"],
)
def test_prediction_agrees_with_noise_added_to_recorded_levels(
    recorded: JudgedPaths, noise: JudgeNoise, size: int
) -> None:
    # N = 4: a case played by four models. N = 8: two cases, because no case was played eight times.
    (effect,) = study_noise(recorded, ESTIMATORS, noise, rewards=Rewards(), group_sizes=(size,), draws=12)
    assert (effect.num_groups, effect.num_left_out) == (120 // size, 0)
    differences = {
        name: one.predicted - one.measured.mean
        for name, one in effect.estimators.items()
        if one.measured is not None
    }
    assert len(differences) == len(ESTIMATORS)
    assert max(map(abs, differences.values())) <= WITHIN, differences


def test_larger_noise_leaves_less_and_measured_equals_recorded_without_noise(recorded: JudgedPaths) -> None:
    paths, _ = regrouped(recorded, 4)
    clean = paths.turns(Rewards())
    found = [
        predict_correlation(
            Grpo(), clean, propagate(paths, gaussian((sd, sd, sd)), Rewards()), batch=paths.batch
        )
        for sd in (0.5, 1.0, 2.0)
    ]
    assert found == sorted(found, reverse=True)
    measured = measure_correlations(
        {"grpo": Grpo()},
        paths,
        gaussian((0.0, 0.0, 0.0)),
        rewards=Rewards(),
        draws=2,
        generator=np.random.default_rng(0),
    )
    assert measured["grpo"].mean == pytest.approx(1.0)
