"""Estimators of other systems return a turn's credit on the tokens of its reply."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mica_ray.credit.oracle.mistaken import TokenRecursion
from mica_ray.credit_study.peers import REPLY_TOKENS, USER_TOKENS, TokenEstimator
from mica_ray.types import TurnRewards


def whitened(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    mean = (values * mask).sum() / mask.sum()
    variance = ((values - mean).square() * mask).sum() / mask.sum()
    return (values - mean) * torch.rsqrt(variance + 1e-8) * mask


def suffix_sums(
    *,
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: np.ndarray,
    config: SimpleNamespace,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A peer's function: the sum of rewards from a token on, whitened over the batch."""
    assert config.gamma == 1.0 and len(index) == len(response_mask)
    returns = token_level_rewards.flip(1).cumsum(1).flip(1)
    return whitened(returns, response_mask), returns


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_peer_is_shown_the_turns_and_its_tokens_are_read_back(seed: int) -> None:
    # Without discount, the recursion that skips the user's tokens is a sum over all following rewards.
    generator = np.random.default_rng(seed)
    valid = generator.random((4, 3)) > 0.3
    valid[0, 0] = valid[1, 1] = True
    rewards = np.where(valid, generator.integers(-4, 5, size=(4, 3)), np.nan)
    turns = TurnRewards(rewards, valid, np.array([0, 0, 1, 1]))
    recursion = TokenRecursion(resets=False, reply_tokens=REPLY_TOKENS, user_tokens=USER_TOKENS)
    # 1e-4: one side uses float32, and the epsilon added to the deviation differs.
    np.testing.assert_allclose(TokenEstimator(suffix_sums)(turns), recursion(turns), atol=1e-4)
