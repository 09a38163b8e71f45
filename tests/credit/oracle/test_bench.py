"""The bench finds leave-one-out unbiased, the mean shrunk as predicted, and wrong forms wrong."""

from __future__ import annotations

import numpy as np
import pytest

from mica_ray.credit import CreditEstimator, Mica, ReinforcePlusPlus, ReturnToGo, TurnGae
from mica_ray.credit.oracle.bench import Contestant, draw_steps, measure
from mica_ray.credit.oracle.bias import compare_gradients
from mica_ray.credit.oracle.cases import all_cases, myopia_trap, survivors, zero_rewards
from mica_ray.credit.oracle.gradient import gradient_estimates, gradient_of_group_mean
from mica_ray.credit.oracle.mistaken import (
    NormalizeThenAccumulate,
    SummedToOne,
    TokenRecursion,
    TurnsFromRewards,
)
from mica_ray.credit.oracle.probes import Properties, ask
from mica_ray.credit.oracle.process import DialogueProcess

CASES = pytest.mark.parametrize("process", all_cases(), ids=lambda process: process.name)

LEAVE_ONE_OUT = Mica(alpha=1, gamma=1, baseline="leave_one_out", divide=False, lone_turn="return")


@CASES
@pytest.mark.parametrize("group_size", [4, 8, 16])
def test_leave_one_out_turn_term_is_unbiased(process: DialogueProcess, group_size: int) -> None:
    steps = draw_steps(process, 400, group_size=group_size, seed=5)
    bias = measure(Contestant("leave-one-out", LEAVE_ONE_OUT), steps)
    assert bias.z < 3, bias


@CASES
@pytest.mark.parametrize("estimator", [ReturnToGo(), TurnGae(lam=1.0, whiten=False)], ids=repr)
def test_baselines_of_the_whole_step_are_unbiased_too(
    process: DialogueProcess, estimator: CreditEstimator
) -> None:
    steps = draw_steps(process, 200, group_size=4, seed=6)
    assert measure(Contestant("", estimator, sees_batch=True), steps).z < 3


@CASES
@pytest.mark.parametrize("group_size", [4, 8, 16])
def test_group_mean_shrinks_as_predicted(process: DialogueProcess, group_size: int) -> None:
    steps = draw_steps(process, 400, group_size=group_size, seed=7)
    advantages = Mica(alpha=1, gamma=1, divide=False)(steps.dialogues.turns(process.features))
    estimates = gradient_estimates(process, steps.dialogues, advantages, num_units=400)
    predicted = gradient_of_group_mean(process, group_size=group_size)
    assert compare_gradients(estimates, predicted).z < 3


SOUND = Properties(**dict.fromkeys(Properties.__slots__, True))  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("estimator", [LEAVE_ONE_OUT, Mica(), ReturnToGo(), TurnGae()], ids=repr)
def test_sound_estimator_passes_every_probe(estimator: CreditEstimator) -> None:
    assert ask(estimator) == SOUND


@pytest.mark.parametrize(
    ("mistaken", "fault"),
    [
        (TokenRecursion(resets=True), "crosses_turns"),
        (TurnsFromRewards(), "keeps_zero_turns"),
        (NormalizeThenAccumulate(), "credits_length"),
        (SummedToOne(), "tells_turns_apart"),
        (Mica(alpha=0.0), "crosses_turns"),
        (ReinforcePlusPlus("batch_idr"), "crosses_turns"),
    ],
)
def test_wrong_form_fails_the_probe_that_names_its_fault(mistaken: CreditEstimator, fault: str) -> None:
    assert not getattr(ask(mistaken), fault)


def test_recursion_without_resets_crosses_turns() -> None:
    assert ask(TokenRecursion(resets=False)).crosses_turns


def test_recursion_that_resets_is_batch_normalised_immediate_reward() -> None:
    steps = draw_steps(survivors(), 1, group_size=8, seed=0)
    turns = steps.dialogues.turns(survivors().features)
    np.testing.assert_allclose(TokenRecursion()(turns), ReinforcePlusPlus("batch_idr")(turns), atol=1e-9)


@pytest.mark.parametrize(
    ("process", "mistaken"),
    [
        (survivors(), NormalizeThenAccumulate()),
        (survivors(), TokenRecursion()),
        (survivors(), Mica(alpha=0.0)),
        (zero_rewards(), TurnsFromRewards()),
        (myopia_trap(), TokenRecursion()),
        (myopia_trap(), Mica(alpha=0.0)),
    ],
)
def test_wrong_form_gives_no_gradient_where_its_fault_matters(
    process: DialogueProcess, mistaken: CreditEstimator
) -> None:
    bias = measure(Contestant("", mistaken, sees_batch=True), draw_steps(process, 200, group_size=8, seed=8))
    assert not bias.has_signal


def test_discount_and_immediate_term_turn_the_gradient_in_the_myopia_trap() -> None:
    # The order of the paper's ingredients: undiscounted, discounted, mixed with the immediate reward.
    steps = draw_steps(myopia_trap(), 300, group_size=8, seed=9)
    turned = [
        measure(Contestant("", estimator), steps).direction_bias
        for estimator in (Mica(alpha=1, gamma=1), Mica(alpha=1), Mica())
    ]
    assert turned[0] < 0.15 < turned[1] < turned[2]


def test_group_that_does_not_divide_a_step_is_refused() -> None:
    with pytest.raises(ValueError, match="group_size must divide 64, got 5"):
        draw_steps(survivors(), 1, group_size=5, seed=0)
