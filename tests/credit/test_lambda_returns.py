"""Special cases equal the papers' estimators; other members are derived by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.credit import CreditEstimator, Grpo, LambdaReturns, Mica, ReinforcePlusPlus, ReturnToGo, Rloo
from mica_ray.credit.lambda_returns import bootstrapped_returns
from mica_ray.credit.normalize import standardize
from mica_ray.credit.returns import discounted_returns
from mica_ray.types import TurnRewards


def ragged_turns(seed: int, num_turns: int = 4) -> TurnRewards:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, num_turns + 1, size=(8, 1))
    valid = np.arange(num_turns) < lengths
    return TurnRewards(generator.normal(size=valid.shape), valid, np.arange(8) // 4)


@pytest.mark.parametrize(
    ("corner", "named"),
    [
        (LambdaReturns(), Mica()),
        (LambdaReturns(alpha=0.3, gamma=0.9), Mica(alpha=0.3, gamma=0.9)),
        (LambdaReturns(alpha=1.0, turn_lambda=1.0), Mica(alpha=1.0)),
        (LambdaReturns(alpha=0.0), Mica(alpha=0.0)),
        (LambdaReturns(turn_lambda=1.0, scope="batch"), Mica(immediate_scope="batch")),
        (
            LambdaReturns(turn_lambda=1.0, baseline="leave_one_out", divide=False),
            Mica(baseline="leave_one_out", divide=False),
        ),
        (LambdaReturns(alpha=0.0, scope="batch"), ReinforcePlusPlus("batch_idr")),
    ],
)
@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_corner_is_the_named_estimator(corner: CreditEstimator, named: CreditEstimator, seed: int) -> None:
    turns = ragged_turns(seed)
    np.testing.assert_allclose(corner(turns), named(turns), atol=1e-9)


def test_return_to_go_is_a_corner_where_siblings_reach_the_turn() -> None:
    turns = TurnRewards(np.random.default_rng(0).normal(size=(4, 3)), np.ones((4, 3), bool), np.zeros(4, int))
    corner = LambdaReturns(alpha=1.0, gamma=1.0, turn_lambda=1.0, baseline="leave_one_out", divide=False)
    np.testing.assert_allclose(corner(turns), ReturnToGo()(turns), atol=1e-12)


def test_reinforce_plus_plus_returns_are_a_corner() -> None:
    # arXiv 2501.03262 with one token a turn: returns to go, whitened over the batch.
    turns = ragged_turns(1)
    returns = discounted_returns(turns.rewards, turns.valid, gamma=1.0)
    whitened = standardize(returns, turns.valid, segments=np.zeros(returns.shape, np.int64))
    corner = LambdaReturns(alpha=0.0, gamma=1.0, group_lambda=1.0, scope="batch")
    np.testing.assert_allclose(corner(turns), whitened, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_centred_lambda_return_is_gae_with_the_siblings_mean_as_value(
    seed: int, gamma: float, turn_lambda: float
) -> None:
    turns = ragged_turns(seed)
    returns = discounted_returns(turns.rewards, turns.valid, gamma=gamma)
    value = np.zeros((8, 5))  # V after the last turn is 0.
    for i, t in zip(*np.nonzero(turns.valid), strict=True):
        reached = (turns.group == turns.group[i]) & turns.valid[:, t]
        value[i, t] = returns[reached, t].mean()
    expected = np.zeros((8, 5))
    for t in range(3, -1, -1):
        difference = turns.rewards[:, t] + gamma * value[:, t + 1] - value[:, t]
        expected[:, t] = np.where(turns.valid[:, t], difference + gamma * turn_lambda * expected[:, t + 1], 0)
    family = LambdaReturns(alpha=1.0, gamma=gamma, turn_lambda=turn_lambda, divide=False)
    np.testing.assert_allclose(family(turns), expected[:, :4], atol=1e-9)


@pytest.mark.parametrize(
    ("corner", "named"),
    [
        (LambdaReturns(alpha=1.0), Grpo()),
        (LambdaReturns(alpha=1.0, baseline="leave_one_out", divide=False), Rloo()),
    ],
)
def test_dialogues_of_one_turn_leave_no_difference(corner: CreditEstimator, named: CreditEstimator) -> None:
    turns = ragged_turns(2, num_turns=1)
    np.testing.assert_allclose(corner(turns), named(turns), atol=1e-12)


def test_ending_and_continuing_get_different_credit_at_lambda_zero() -> None:
    # Every turn earns 1; lambda 0, gamma 1. Continuing is worth 1 + m_1 = 2, ending 1: mean 1.5.
    turns = TurnRewards(np.ones((2, 2)), np.array([[True, True], [True, False]]), np.zeros(2, np.int64))
    family = LambdaReturns(alpha=1.0, gamma=1.0, turn_lambda=0.0, divide=False)
    np.testing.assert_allclose(family(turns), [[0.5, 0], [-0.5, 0]])


def test_half_trust_by_hand() -> None:
    # gamma 1, lambda 1/2. Turn 1: 4 and 0, mean 2. Turn 0: 1 + (2 + 4) / 2 = 4 and 3 + (2 + 0) / 2 = 4.
    turns = TurnRewards(np.array([[1.0, 4.0], [3.0, 0.0]]), np.ones((2, 2), bool), np.zeros(2, np.int64))
    np.testing.assert_allclose(bootstrapped_returns(turns, gamma=1.0, turn_lambda=0.5), [[4, 4], [4, 0]])
    # Leave-one-out bootstraps from the other's return: 1 + (0 + 4) / 2 and 3 + (4 + 0) / 2.
    others = bootstrapped_returns(turns, gamma=1.0, turn_lambda=0.5, baseline="leave_one_out")
    np.testing.assert_allclose(others, [[3, 4], [5, 0]])


@pytest.mark.parametrize("field", ["alpha", "gamma", "turn_lambda", "group_lambda"])
def test_weight_outside_the_unit_interval_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be in \[0, 1\], got 1\.5\."):
        LambdaReturns(**{field: 1.5})  # pyright: ignore[reportArgumentType]


def test_unknown_scope_is_refused() -> None:
    with pytest.raises(ValueError, match="scope must be 'group' or 'batch', got 'turn'"):
        LambdaReturns(scope="turn")  # pyright: ignore[reportArgumentType]
