"""Measure the bias and noise of an estimator's gradient on sampled steps of a process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mica_ray.credit.estimator import CreditEstimator
from mica_ray.credit.oracle.bias import GradientBias, compare_gradients
from mica_ray.credit.oracle.gradient import exact_gradient, gradient_estimates
from mica_ray.credit.oracle.process import DialogueProcess, Dialogues, sample
from mica_ray.types import TurnRewards

STEP_DIALOGUES = 64
"""Dialogues of one step: 16 scenarios of 4 in the paper."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """An estimator of the bench."""

    name: str
    estimator: CreditEstimator
    sees_batch: bool = False
    """Whether it compares over the whole step, so that each step needs a call of its own."""
    imputed: bool = False
    """Whether it gets failed judgements as rewards of 0."""
    is_blind: bool = False
    """Whether it gets the same state everywhere."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """Sampled steps of a process at one group size, the same for every contestant."""

    process: DialogueProcess
    dialogues: Dialogues
    num_steps: int
    exact: np.ndarray
    """[S, A], the exact gradient of the judged turns."""


def draw_steps(process: DialogueProcess, num_steps: int, *, group_size: int, seed: int) -> Sampled:
    """Draw steps of 64 dialogues.

    Args:
        process: the process to sample.
        num_steps: number of steps.
        group_size: N, a divisor of 64.
        seed: seed of the draws.

    Raises:
        ValueError: `group_size` does not divide 64.
    """
    if STEP_DIALOGUES % group_size:
        raise ValueError(f"group_size must divide {STEP_DIALOGUES}, got {group_size}.")
    num_groups = num_steps * STEP_DIALOGUES // group_size
    generator = np.random.default_rng(seed)
    dialogues = sample(process, num_groups, group_size=group_size, generator=generator)
    return Sampled(process, dialogues, num_steps, exact_gradient(process))


def measure(contestant: Contestant, sampled: Sampled) -> GradientBias:
    """Measure the bias and the noise of a contestant's gradient."""
    features = sampled.process.features * (0.0 if contestant.is_blind else 1.0)
    turns = sampled.dialogues.turns(features, imputed=contestant.imputed)
    if contestant.sees_batch:
        advantages = np.concatenate([contestant.estimator(step) for step in _steps(turns)])
    else:
        advantages = contestant.estimator(turns)
    estimates = gradient_estimates(
        sampled.process, sampled.dialogues, advantages, num_units=sampled.num_steps
    )
    return compare_gradients(estimates, sampled.exact)


def _steps(turns: TurnRewards) -> Iterator[TurnRewards]:
    """Split a batch into its steps."""
    for first in range(0, len(turns.group), STEP_DIALOGUES):
        part = slice(first, first + STEP_DIALOGUES)
        states = None if turns.states is None else turns.states[part]
        yield TurnRewards(turns.rewards[part], turns.valid[part], turns.group[part], states)
