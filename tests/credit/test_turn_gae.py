"""The critic on the need state and the advantages over turns, against plain loops and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.credit import ReturnToGo, TurnGae
from mica_ray.credit.returns import discounted_returns
from mica_ray.credit.turn_gae import leave_one_out_values
from mica_ray.types import TurnRewards


def random_turns(seed: int, num_dialogues: int = 6, num_turns: int = 3) -> TurnRewards:
    generator = np.random.default_rng(seed)
    valid = np.arange(num_turns) < generator.integers(1, num_turns + 1, size=(num_dialogues, 1))
    valid &= generator.random(valid.shape) > 0.2
    states = generator.normal(size=(num_dialogues, num_turns, 2))
    return TurnRewards(generator.normal(size=valid.shape), valid, np.arange(num_dialogues) // 2, states)


def refitted_values(turns: TurnRewards, returns: np.ndarray, ridge: float) -> np.ndarray:
    """Fit the regression separately for every dialogue, on the rows of the others."""
    assert turns.states is not None
    values = np.zeros(returns.shape)
    for i in range(len(returns)):
        others = [j for j in range(len(returns)) if j != i]
        covariance, with_return = np.zeros((2, 2)), np.zeros(2)
        means: dict[int, tuple[np.ndarray, float]] = {}
        for t in range(returns.shape[1]):
            rows = [j for j in others if turns.valid[j, t]]
            if not rows:
                continue
            x, y = turns.states[rows, t], returns[rows, t]
            means[t] = (x.mean(axis=0), float(y.mean()))
            covariance += (x - x.mean(axis=0)).T @ (x - x.mean(axis=0))
            with_return += (x - x.mean(axis=0)).T @ (y - y.mean())
        diagonal = np.diag(covariance)
        penalty = np.where(diagonal > 1e-9, ridge * diagonal, 1.0)
        slope = np.linalg.solve(covariance + np.diag(penalty), with_return)
        for t, (mean_state, mean_return) in means.items():
            if turns.valid[i, t]:
                values[i, t] = mean_return + slope @ (turns.states[i, t] - mean_state)
    return values


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_one_regression_less_a_dialogue_is_the_regression_without_it(seed: int) -> None:
    turns = random_turns(seed)
    returns = discounted_returns(turns.rewards, turns.valid, gamma=0.9)
    values = leave_one_out_values(turns, returns, ridge=0.1)
    # 1e-8: the shared sums are subtracted from each other.
    np.testing.assert_allclose(values, refitted_values(turns, returns, 0.1), atol=1e-8)


def test_critic_finds_a_return_that_follows_from_the_state() -> None:
    # One turn, r = 2 s: with next to no penalty every dialogue's value is its return, and the advantage 0.
    states = np.array([0.0, 1.0, 2.0, 3.0])
    turns = TurnRewards(
        2 * states[:, None], np.ones((4, 1), bool), np.zeros(4, np.int64), states[:, None, None]
    )
    np.testing.assert_allclose(TurnGae(ridge=1e-9, whiten=False)(turns), np.zeros((4, 1)), atol=1e-6)


def test_temporal_differences_by_hand() -> None:
    # With a constant state V is the others' mean return. Rewards (0, 4), (2, 0): returns (4, 4), (2, 0);
    # V = (2, 0), (4, 4). d = (0 + 0 - 2, 4 - 0), (2 + 4 - 4, 0 - 4); lam 0.5: A = (-2 + 2, 4), (2 - 2, -4).
    turns = TurnRewards(
        np.array([[0.0, 4.0], [2.0, 0.0]]), np.ones((2, 2), bool), np.zeros(2, np.int64), np.zeros((2, 2, 1))
    )
    np.testing.assert_allclose(TurnGae(lam=0.5, whiten=False)(turns), [[0, 4], [0, -4]], atol=1e-12)
    np.testing.assert_allclose(TurnGae(lam=0.0, whiten=False)(turns), [[-2, 4], [2, -4]], atol=1e-12)


def test_whole_trust_in_rewards_is_return_to_go_less_the_critic() -> None:
    turns = random_turns(3)
    silent = TurnRewards(turns.rewards, turns.valid, np.zeros(6, np.int64), np.zeros((6, 3, 1)))
    np.testing.assert_allclose(TurnGae(lam=1.0, whiten=False)(silent), ReturnToGo()(silent), atol=1e-12)


def test_whitened_advantages_have_mean_zero_and_deviation_one() -> None:
    turns = random_turns(4)
    credited = TurnGae()(turns)[turns.valid]
    assert credited.mean() == pytest.approx(0.0, abs=1e-12)
    assert credited.std() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("field", "value"), [("gamma", 1.1), ("lam", -0.1), ("ridge", 0.0)])
def test_value_out_of_range_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .*, got {value}"):
        TurnGae(**{field: value})  # pyright: ignore[reportArgumentType]
