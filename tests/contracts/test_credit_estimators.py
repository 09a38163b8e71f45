"""Every credit estimator keeps the promises of the protocol; the check catches those that do not."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from mica_ray.credit import CreditEstimator, Grpo, Mica, ReinforcePlusPlus, Rloo, check_estimator
from mica_ray.types import TurnRewards

ESTIMATORS: list[CreditEstimator] = [
    Mica(),
    Mica(alpha=1.0),
    Mica(alpha=0.0),
    Mica(alpha=0.0, immediate_scope="batch"),
    Mica(alpha=1.0, horizon="shortest"),
    Mica(alpha=1.0, lone_turn="group"),
    Mica(baseline="leave_one_out", divide=False),
    Grpo(),
    Grpo(divide=False),
    Rloo(),
    ReinforcePlusPlus("trajectory"),
    ReinforcePlusPlus("batch_idr"),
    ReinforcePlusPlus("baseline"),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_estimator_keeps_the_promises(estimator: CreditEstimator) -> None:
    check_estimator(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_estimator_travels_by_value(estimator: CreditEstimator) -> None:
    assert pickle.loads(pickle.dumps(estimator)) == estimator


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_constant_batch_gets_exactly_zero_immediate_credit(estimator: CreditEstimator) -> None:
    turns = TurnRewards(np.full((6, 3), 0.1), np.ones((6, 3), bool), np.array([0, 0, 0, 1, 1, 1]))
    np.testing.assert_array_equal(estimator(turns), np.zeros((6, 3)))


@dataclass(frozen=True)
class Raw:
    """Credits a turn with its own reward and forgets the mask."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        return turns.rewards.astype(np.float64)


@dataclass(frozen=True)
class Padded:
    """Lets padding into the mean."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        filled = np.where(turns.valid, turns.rewards, 0.0)
        mean = filled.sum() / max(filled.size, 1)
        return np.where(turns.valid, filled - mean, 0.0)


@dataclass(frozen=True)
class FirstIsBest:
    """Depends on the order of the dialogues."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        rank = -np.arange(len(turns.group), dtype=np.float64)
        return np.where(turns.valid, rank[:, None], 0.0)


@dataclass(frozen=True)
class Divider:
    """Divides by a deviation that can be zero."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        rewards = np.where(turns.valid, turns.rewards, 0.0)
        with np.errstate(all="ignore"):
            spread = rewards.max(initial=-99) - rewards.min(initial=99)
            return np.where(turns.valid, rewards / spread, 0.0)


@dataclass(frozen=True)
class Writer:
    """Zeroes its own input."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        turns.rewards[~turns.valid] = 0.0
        return np.zeros(turns.rewards.shape)


@dataclass(frozen=True)
class PerDialogue:
    """Gives one number per dialogue instead of one per turn."""

    def __call__(self, turns: TurnRewards) -> np.ndarray:
        return np.zeros(len(turns.group))


@pytest.mark.parametrize(
    ("impostor", "promise"),
    [
        (Raw(), "0 where not valid"),
        (Padded(), "padding columns"),
        (FirstIsBest(), "order of dialogues"),
        (Divider(), "finite"),
        (Writer(), "write into its input"),
        (PerDialogue(), "must return"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_check_names_the_broken_promise(impostor: CreditEstimator, promise: str) -> None:
    with pytest.raises(ValueError, match=promise):
        check_estimator(impostor)
