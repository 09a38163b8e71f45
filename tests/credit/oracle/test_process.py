"""Sampling agrees with enumeration; the exact gradient is the derivative of the reward."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mica_ray.credit.oracle.cases import all_cases, survivors
from mica_ray.credit.oracle.gradient import exact_gradient, gradient_of_group_mean, turn_gradients
from mica_ray.credit.oracle.process import DialogueProcess, enumerate_dialogues, sample

CASES = pytest.mark.parametrize("process", all_cases(), ids=lambda process: process.name)


def expected_reward(process: DialogueProcess) -> float:
    """Return the mean summed reward by backward induction, without enumerating dialogues."""
    value = np.zeros(len(process.start) + 1)
    for _ in range(process.num_turns):
        worth = (process.moves * (process.rewards + value)).sum(axis=2)
        value = np.append((process.policy * worth).sum(axis=1), 0.0)
    return float(process.start @ value[:-1])


def test_gradient_of_survivors_by_hand() -> None:
    # p = 1/2, J = 1 + p + p^2 + p^3, dJ/dp = 1 + 1 + 3/4 = 2.75, dp/dlogit = 1/4.
    np.testing.assert_allclose(exact_gradient(survivors()), [[-0.6875, 0.6875]])
    # Continuing at turn 0 adds 1 + 1/2 + 1/4 turns: 1/4 of 1.75; at the last turn no choice matters.
    by_turn = turn_gradients(survivors(), 0)[:, 0, 1]
    np.testing.assert_allclose(by_turn, [1.75 / 4, 1.5 / 8, 1 / 16, 0])


@CASES
def test_exact_gradient_is_the_derivative_of_the_expected_reward(process: DialogueProcess) -> None:
    gradient = exact_gradient(process, judged=False)
    step = 1e-5
    for index in np.ndindex(process.logits.shape):
        nudge = np.zeros(process.logits.shape)
        nudge[index] = step
        rise = expected_reward(replace(process, logits=process.logits + nudge)) - expected_reward(
            replace(process, logits=process.logits - nudge)
        )
        # 1e-8: central differences err by step^2.
        assert gradient[index] == pytest.approx(rise / (2 * step), abs=1e-8)


@CASES
def test_probabilities_of_all_dialogues_sum_to_one(process: DialogueProcess) -> None:
    for start in np.flatnonzero(process.start):
        probability, dialogues = enumerate_dialogues(process, int(start))
        assert probability.sum() == pytest.approx(1.0)
        everything = np.concatenate([dialogues.states, dialogues.replies, dialogues.played], axis=1)
        # Dialogues may repeat only if they differ in how their last turn ended.
        assert len(np.unique(everything, axis=0)) <= len(probability)


@CASES
def test_sampled_rewards_have_the_mean_of_the_enumerated(process: DialogueProcess) -> None:
    dialogues = sample(process, 4000, group_size=4, generator=np.random.default_rng(0))
    total = dialogues.rewards.sum(axis=1).reshape(4000, 4).mean(axis=1)
    error = total.std() / np.sqrt(len(total))
    assert abs(total.mean() - expected_reward(process)) < 4 * error
    share = 1 - dialogues.judged.sum() / dialogues.played.sum()
    assert share == pytest.approx(process.failed_fraction, abs=0.01)


def test_group_mean_keeps_what_the_number_of_survivors_leaves() -> None:
    # Two dialogues, p = 1/2: at turn 0 both are there, 1 - 1/2 of 0.4375; at turn 1 the other is there with
    # probability 1/2: 1/4 of 0.1875; at turn 2 with 1/4: 1/8 of 0.0625.
    expected = 0.4375 / 2 + 0.1875 / 4 + 0.0625 / 8
    np.testing.assert_allclose(gradient_of_group_mean(survivors(), group_size=2)[0, 1], expected)


def test_failed_turn_shows_no_reward() -> None:
    process = replace(survivors(), failed_fraction=0.5)
    dialogues = sample(process, 50, group_size=2, generator=np.random.default_rng(1))
    turns = dialogues.turns(process.features)
    assert np.isnan(turns.rewards[~turns.valid]).all()
    imputed = dialogues.turns(process.features, imputed=True)
    assert imputed.valid.sum() > turns.valid.sum()
    assert not imputed.rewards[dialogues.played & ~dialogues.judged].any()


def test_process_with_wrong_probabilities_is_refused() -> None:
    with pytest.raises(ValueError, match="moves must be probabilities that sum to 1"):
        replace(survivors(), moves=np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match=r"failed_fraction must be in \[0, 1\), got 1.0"):
        replace(survivors(), failed_fraction=1.0)
