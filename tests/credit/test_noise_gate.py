"""The gate of near ties: spread against noise by hand, at, below and above the limit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mica_ray.config import RunConfig
from mica_ray.config.overrides import override
from mica_ray.credit import CreditEstimator, Grpo, Mica, Rloo, check_estimator
from mica_ray.credit.estimator import trained_turns
from mica_ray.credit.noise_gate import Gated, GateMode, GateScope, NoiseGate
from mica_ray.training.metrics import METRICS, gate_metrics
from mica_ray.types import TurnRewards


def turns_of(
    rewards: list[list[float]], group: list[int], valid: list[list[int]] | None = None
) -> TurnRewards:
    values = np.array(rewards)
    is_valid = np.ones(values.shape, bool) if valid is None else np.array(valid, dtype=bool)
    return TurnRewards(np.where(is_valid, values, np.nan), is_valid, np.array(group))


# Two dialogues of one turn, 2 apart: s = sqrt((1 + 1) / 1) = sqrt(2).
PAIR = turns_of([[1.0], [-1.0]], [0, 0])
SPREAD = math.sqrt(2)


@pytest.mark.parametrize(
    ("reward_sd", "kept"), [(SPREAD * (1 - 1e-9), True), (SPREAD * (1 + 1e-9), False), (1e-9, True)]
)
@pytest.mark.parametrize("scope", ["turn", "group", "dialogue"])
def test_spread_must_exceed_the_noise(scope: GateScope, reward_sd: float, kept: bool) -> None:
    gated = Gated(Mica(), NoiseGate(reward_sd, scope=scope))
    assert gated.trained(PAIR).tolist() == [[kept], [kept]]
    expected = Mica()(PAIR) if kept else np.zeros((2, 1))
    np.testing.assert_array_equal(gated(PAIR), expected)


def test_spread_equal_to_the_noise_is_a_near_tie() -> None:
    # Three values -2, 0, 2: s^2 = 8 / 2 = 4, exactly the square of the noise.
    turns = turns_of([[-2.0], [0.0], [2.0]], [0, 0, 0])
    assert not NoiseGate(2.0).weights(turns, gamma=1.0).any()
    assert NoiseGate(1.0, ratio=2.0).weights(turns, gamma=1.0).sum() == 0
    assert NoiseGate(1.0, ratio=1.9).weights(turns, gamma=1.0).sum() == 3


def test_noise_of_a_return_adds_up_over_the_turns_left() -> None:
    # Returns at gamma 0.5: 0.5 + 0.5 x 1 = 1 and -1; s = sqrt(2) at turn 1, and sqrt(2) at turn 2.
    # Noise SD 1.3: 1.69 (1 + 0.25) = 2.11 > 2 at turn 1, 1.69 < 2 at turn 2.
    turns = turns_of([[0.5, 1.0], [-0.5, -1.0]], [0, 0])
    weights = NoiseGate(1.3).weights(turns, gamma=0.5)
    assert weights.tolist() == [[0, 1], [0, 1]]
    # At gamma 0 nothing is left over, but rewards of turn 1 are only 1 apart: s^2 = 0.5 < 1.69.
    assert NoiseGate(1.3).weights(turns, gamma=0.0).tolist() == [[0, 1], [0, 1]]
    assert NoiseGate(0.7).weights(turns, gamma=0.0).tolist() == [[1, 1], [1, 1]]


def test_dialogue_scope_counts_the_judged_turns() -> None:
    # R = 3 and 0: s^2 = 4.5. Noise of 2 and 1 judged turns: mean 1.5 sd^2, so the limit is sd = sqrt(3).
    turns = turns_of([[1.0, 2.0], [0.0, 9.0]], [0, 0], [[1, 1], [1, 0]])
    below, above = (NoiseGate(sd, scope="dialogue") for sd in (math.sqrt(3) - 1e-6, math.sqrt(3) + 1e-6))
    assert below.weights(turns, gamma=1.0).tolist() == [[1, 1], [1, 0]]
    assert not above.weights(turns, gamma=1.0).any()


def test_group_scope_decides_for_the_whole_group() -> None:
    # Group 0 has rewards 0, 0, 0, 4: s^2 = 12 / 3 = 4. Group 1 is constant.
    turns = turns_of([[0.0, 0.0], [0.0, 4.0], [1.0, 1.0], [1.0, 1.0]], [0, 0, 1, 1])
    gate = NoiseGate(1.9, scope="group")
    assert gate.weights(turns, gamma=1.0).tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]
    assert not NoiseGate(2.1, scope="group").weights(turns, gamma=1.0).any()


def test_turn_without_siblings_is_not_gated() -> None:
    turns = turns_of([[1.0, 5.0], [1.0, 0.0]], [0, 0], [[1, 1], [1, 0]])
    assert NoiseGate(100.0).weights(turns, gamma=1.0).tolist() == [[0, 1], [0, 0]]


def test_shrinking_keeps_the_share_that_is_not_noise() -> None:
    # s^2 = 2, e^2 = 0.5: 1 - 0.25 = 0.75 of the advantages 1 and -1.
    gated = Gated(Grpo(), NoiseGate(math.sqrt(0.5), mode="shrink"))
    np.testing.assert_allclose(gated(PAIR), [[0.75], [-0.75]], atol=1e-5)
    assert gated.trained(PAIR).all()
    assert not Gated(Grpo(), NoiseGate(SPREAD + 1e-9, mode="shrink")).trained(PAIR).any()


@pytest.mark.parametrize("mode", ["exclude", "shrink"])
@pytest.mark.parametrize("scope", ["turn", "group", "dialogue"])
@pytest.mark.parametrize("estimator", [Mica(), Mica(horizon="shortest"), Rloo()], ids=repr)
def test_gated_estimator_keeps_the_promises(
    estimator: CreditEstimator, scope: GateScope, mode: GateMode
) -> None:
    check_estimator(Gated(estimator, NoiseGate(0.8, scope=scope, mode=mode)))


def test_gate_excludes_only_what_the_estimator_trains() -> None:
    # "shortest" trains turn 1 only; there the returns are equal, at turn 2 there is one dialogue.
    turns = turns_of([[1.0, 0.0], [1.0, 0.0]], [0, 0], [[1, 1], [1, 0]])
    gated = Gated(Mica(horizon="shortest"), NoiseGate(0.1))
    assert trained_turns(Mica(horizon="shortest"), turns).tolist() == [[True, False], [True, False]]
    assert not gated.trained(turns).any()
    assert gated.gated_fraction(turns) == 1.0
    assert Gated(Mica(), NoiseGate(0.1)).gated_fraction(turns) == pytest.approx(2 / 3)


def test_metric_counts_gated_turns_only_with_a_gate() -> None:
    # One of two turns per dialogue is a tie.
    turns = turns_of([[1.0, 4.0], [1.0, 0.0]], [0, 0])
    gated = Gated(Mica(gamma=0), NoiseGate(0.5))
    assert gate_metrics(gated, turns) == {"gated_turn_fraction": 0.5}
    assert set(gate_metrics(gated, turns)) <= set(METRICS)
    assert gate_metrics(Mica(), turns) == {}
    assert gate_metrics(gated, turns_of([[1.0]], [0], [[0]])) == {}


@pytest.mark.parametrize("wrong", [{"reward_sd": 0.0}, {"ratio": 0.0}, {"scope": "batch"}, {"mode": "drop"}])
def test_impossible_gate_is_refused(wrong: dict[str, object]) -> None:
    (name,) = wrong
    values: dict[str, object] = {"reward_sd": 1.0, **wrong}
    with pytest.raises(ValueError, match=name):
        NoiseGate(**values)  # pyright: ignore[reportArgumentType]


def test_run_has_no_gate_unless_it_is_set() -> None:
    config = RunConfig()
    assert config.noise_gate is None and config.whole_credit is config.credit
    gated = override(config, ['noise_gate={"reward_sd": 0.8, "scope": "dialogue"}', "credit.gamma=0.9"])
    assert gated.whole_credit == Gated(Mica(gamma=0.9), NoiseGate(0.8, scope="dialogue"))
    assert (gated.discount, gated.whole_credit.gamma) == (0.9, 0.9)  # pyright: ignore
    assert RunConfig.model_validate_json(gated.model_dump_json()) == gated
