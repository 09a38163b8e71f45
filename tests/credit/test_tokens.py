"""Credit on tokens: small cases by hand, and benchmark sizes against loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.credit import Mica
from mica_ray.credit.tokens import spread_over_tokens
from mica_ray.types import TurnRewards


def test_every_token_reads_the_credit_of_its_turn() -> None:
    # Two dialogues of two turns: turn 1 of dialogue 0 is number 0 * 2 + 1, turn 0 of dialogue 1 is number 2.
    turn_ids = np.array([[-1, 0, 0, -1, 1], [-1, -1, 2, 2, -1]])
    tokens = spread_over_tokens(np.array([[0.5, -1.0], [2.0, 7.0]]), turn_ids)
    np.testing.assert_array_equal(tokens, [[0, 0.5, 0.5, 0, -1], [0, 0, 2, 2, 0]])
    assert tokens.dtype == np.float32


def test_nothing_to_spread_gives_nothing() -> None:
    assert spread_over_tokens(np.zeros(0), np.zeros((0, 0), dtype=np.int64)).shape == (0, 0)
    np.testing.assert_array_equal(spread_over_tokens(np.zeros(0), np.full((1, 3), -1)), np.zeros((1, 3)))


@pytest.mark.parametrize("stray", [-2, 2])
def test_token_of_no_known_turn_is_refused(stray: int) -> None:
    with pytest.raises(ValueError, match=rf"turn_ids must be in \[-1, 2\), got .*{stray}"):
        spread_over_tokens(np.zeros(2), np.array([[0, stray]]))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_tokens_of_a_turn_all_get_it_and_others_get_nothing(seed: int) -> None:
    generator = np.random.default_rng(seed)
    advantages = generator.normal(size=(3, 4))
    turn_ids = generator.integers(-1, advantages.size, size=(5, 11))
    tokens = spread_over_tokens(advantages, turn_ids)
    for number, advantage in enumerate(advantages.reshape(-1).tolist()):
        assert set(tokens[turn_ids == number].tolist()) <= {float(np.float32(advantage))}
    assert not tokens[turn_ids == -1].any()


def compared(values: list[float]) -> tuple[float, float]:
    """Return mean and population deviation."""
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def looped_mica(rewards: list[list[float]], group_size: int) -> list[list[float]]:
    """Compute MICA as in the paper, turn by turn: alpha 1/2, gamma 0.85."""
    advantages: list[list[float]] = []
    for first in range(0, len(rewards), group_size):
        group = rewards[first : first + group_size]
        returns = [
            [sum(0.85 ** (s - t) * row[s] for s in range(t, len(row))) for t in range(len(row))]
            for row in group
        ]
        mean_r, std_r = compared([reward for row in group for reward in row])
        at_turn = [
            compared([row[t] for row in returns if t < len(row)])
            for t in range(max(len(row) for row in group))
        ]
        for row, row_returns in zip(group, returns, strict=True):
            line: list[float] = []
            for t, reward in enumerate(row):
                mean_g, std_g = at_turn[t]
                line.append(0.5 * (row_returns[t] - mean_g) / (std_g + 1e-6))
                line[t] += 0.5 * (reward - mean_r) / (std_r + 1e-6)
            advantages.append(line)
    return advantages


@pytest.mark.parametrize(
    "size", [(64, 4096, 8, 4), (256, 8192, 15, 8), (64, 25000, 15, 4), (4096, 2048, 30, 16)], ids=str
)
def test_kernels_agree_with_loops_in_float64(size: tuple[int, int, int, int]) -> None:
    num_dialogues, num_tokens, num_turns, group_size = size
    generator = np.random.default_rng(num_tokens)
    lengths = generator.integers(1, num_turns + 1, size=num_dialogues)
    rows = [generator.normal(size=length).tolist() for length in lengths]
    # Turn k of a dialogue starts at bound 2k, and its reply at bound 2k + 1.
    starts = np.sort(generator.permuted(np.tile(np.arange(num_tokens), (num_dialogues, 1)), axis=1)[:, :61])
    rewards, valid = np.full((num_dialogues, num_turns), 1e9), np.zeros((num_dialogues, num_turns), bool)
    turn_ids = np.full((num_dialogues, num_tokens), -1)
    expected = np.zeros((num_dialogues, num_tokens))
    for i, (row, advantages) in enumerate(zip(rows, looped_mica(rows, group_size), strict=True)):
        rewards[i, : len(row)], valid[i, : len(row)] = row, True
        for t, advantage in enumerate(advantages):
            reply = slice(starts[i, 2 * t + 1], starts[i, 2 * t + 2])
            turn_ids[i, reply], expected[i, reply] = i * num_turns + t, advantage
    turns = TurnRewards(rewards, valid, np.arange(num_dialogues) // group_size)
    # 1e-5: float32 holds an advantage of up to 4 to 2e-7.
    assert float(np.abs(spread_over_tokens(Mica()(turns), turn_ids) - expected).max()) <= 1e-5
