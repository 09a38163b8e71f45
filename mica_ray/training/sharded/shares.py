"""What each rank needs of a batch, planned once from the lengths of the rows. Used by update.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mica_ray.packing import mini_batches, plan_micro_batches
from mica_ray.training.learner import LearnerError
from mica_ray.types import TokenBatch


@dataclass(frozen=True, slots=True)
class RankShare:
    """The rows of one rank in an update."""

    step: int
    """Step of the training loop."""
    mini_batches: tuple[tuple[TokenBatch, ...], ...]
    """For each optimizer step of a pass, the micro-batches of this rank: as many on every rank."""
    loss_tokens: int
    """Trained tokens of the whole batch, all ranks."""
    loss_turns: int
    """Trained turns of the whole batch, all ranks."""


def rank_shares(
    batch: TokenBatch, *, num_mini_batches: int, micro_batch_tokens: int, world_size: int
) -> list[RankShare]:
    """Split a batch over optimizer steps, ranks and micro-batches.

    A mini-batch without trained tokens is left out.

    Args:
        batch: of a step of the loop.
        num_mini_batches: optimizer steps of one pass.
        micro_batch_tokens: largest number of padded tokens in one forward pass.
        world_size: number of ranks.

    Returns:
        One share for each rank. Together they have every row once.

    Raises:
        LearnerError: the engine's log probabilities are not finite.
    """
    _check_engine_logprobs(batch)
    plans = [
        plan_micro_batches(mini, world_size, micro_batch_tokens)
        for mini in mini_batches(batch, num_mini_batches)
        if mini.loss_tokens > 0
    ]
    return [
        RankShare(
            step=batch.step,
            mini_batches=tuple(tuple(plan[rank]) for plan in plans),
            loss_tokens=batch.loss_tokens,
            loss_turns=batch.loss_turns,
        )
        for rank in range(world_size)
    ]


def _check_engine_logprobs(batch: TokenBatch) -> None:
    trained = batch.behaviour_logprobs[batch.loss_mask]
    wrong = int((~np.isfinite(trained)).sum())
    if wrong:
        raise LearnerError(
            f"{wrong} of {trained.size} log probabilities of the engine in step {batch.step} are not finite. "
            "Check the engine's log and engine.dtype, then rerun with --resume."
        )
