"""Estimators of other systems, called as they are through our protocol; for credit_correctness.py."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from mica_ray.credit.oracle.bench import Contestant
from mica_ray.types import TurnRewards

REPLY_TOKENS, USER_TOKENS = 3, 2
"""Tokens of each turn; the user's come first. Enough for a recursion over tokens to show how it crosses."""

VERL_ESTIMATORS = ("grpo", "rloo", "reinforce_plus_plus", "reinforce_plus_plus_baseline")
"""Those that need nothing but rewards, mask and groups."""

AdvantageFunction = Callable[..., tuple[Any, Any]]
"""(token_level_rewards, response_mask, index, config) -> advantages and returns, torch tensors."""


@dataclass(frozen=True)
class TokenEstimator:
    """Spread turns over tokens, ask an estimator of token advantages, and average each turn's tokens.

    The reward sits on the last token of its reply. A turn without judgement is masked like a user's tokens.
    """

    function: AdvantageFunction

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Give the advantage of every turn, [B, T] float64."""
        import torch

        num_dialogues, num_turns = turns.rewards.shape
        width = USER_TOKENS + REPLY_TOKENS
        is_reply = np.tile(np.arange(width) >= USER_TOKENS, num_turns)
        mask = np.repeat(turns.valid, width, axis=1) & is_reply
        rewards = np.zeros(mask.shape, dtype=np.float32)
        rewards[:, width - 1 :: width] = np.where(turns.valid, turns.rewards, 0.0)
        advantages, _ = self.function(
            token_level_rewards=torch.from_numpy(rewards),
            response_mask=torch.from_numpy(mask.astype(np.float32)),
            index=turns.group,
            config=SimpleNamespace(gamma=1.0),
        )
        by_token = np.asarray(advantages, dtype=np.float64) * mask
        return by_token.reshape(num_dialogues, num_turns, width)[..., USER_TOKENS:].mean(axis=2)


def verl_functions() -> dict[str, AdvantageFunction]:
    """Give verl's own estimators as they are, by name.

    Raises:
        ValueError: verl cannot be imported here.
    """
    try:
        algorithms: ModuleType = importlib.import_module("verl.trainer.ppo.core_algos")
        verl = importlib.import_module("verl")
    except ImportError as error:
        raise ValueError(
            f"--peer verl: import verl failed ({error}); run with a Python that has verl, or leave --peer out"
        ) from error
    version = getattr(verl, "__version__", "?")
    return {f"verl {version} {name}": algorithms.get_adv_estimator_fn(name) for name in VERL_ESTIMATORS}


def verl_contestants() -> list[Contestant]:
    """Give verl's own estimators, each seeing a whole step.

    Raises:
        ValueError: verl cannot be imported here.
    """
    return [
        Contestant(name, TokenEstimator(function), sees_batch=True)
        for name, function in verl_functions().items()
    ]
