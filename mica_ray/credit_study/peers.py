"""Estimators of other systems behind our protocol, unchanged; used by experiments/credit_correctness.py."""

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
"""Tokens per turn, the user's first; enough to show how a recursion over tokens crosses turns."""

VERL_ESTIMATORS = ("grpo", "rloo", "reinforce_plus_plus", "reinforce_plus_plus_baseline")
"""Estimators that need only rewards, mask and groups."""

AdvantageFunction = Callable[..., tuple[Any, Any]]
"""(token_level_rewards, response_mask, index, config) -> advantages and returns, torch tensors."""


@dataclass(frozen=True)
class TokenEstimator:
    """Spread turns over tokens, call an estimator of token advantages, and average the tokens of each turn.

    The reward is on the last token of the reply. A turn without judgement is masked like the user's tokens.
    """

    function: AdvantageFunction

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        """Return the advantage of every turn, [B, T] float64."""
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
    """Return verl's own estimators, unchanged, by name.

    Raises:
        ValueError: verl cannot be imported here.
    """
    try:
        algorithms: ModuleType = importlib.import_module("verl.trainer.ppo.core_algos")
        verl = importlib.import_module("verl")
    except ImportError as error:
        raise ValueError(
            f"--peer verl: import verl failed ({error}). Use a Python that has verl, or omit --peer."
        ) from error
    version = getattr(verl, "__version__", "?")
    return {f"verl {version} {name}": algorithms.get_adv_estimator_fn(name) for name in VERL_ESTIMATORS}


def verl_contestants() -> list[Contestant]:
    """Return verl's own estimators as contestants that see a whole step.

    Raises:
        ValueError: verl cannot be imported here.
    """
    return [
        Contestant(name, TokenEstimator(function), sees_batch=True)
        for name, function in verl_functions().items()
    ]
