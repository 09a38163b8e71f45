"""One learner update: every optimizer step of a batch, used by both learners.

The engine is a `Stepper` and the sums over ranks are `Ranks` (stepper.py). The loss is in mica_ray/losses.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from mica_ray.checks import above, at_least, one_of, within
from mica_ray.heap import release_freed_memory
from mica_ray.lora.config import LoraConfig
from mica_ray.losses import LossConfig, LossTerms, policy_loss
from mica_ray.training.learner import LearnerError
from mica_ray.training.policy_folder import Dtype
from mica_ray.training.sharded.shares import RankShare, rank_shares
from mica_ray.training.stepper import Ranks, Stepper
from mica_ray.types import TokenBatch

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class LearnerConfig:
    """Optimizer, schedule and loss.

    Learning rate, schedule, warm-up and clip default to those of the paper's released scripts.
    """

    learning_rate: float = 1e-6
    """Peak learning rate, reached after the warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_fraction: float = 0.05
    """Fraction of `total_updates` over which the rate rises linearly, from a first step above 0."""
    total_updates: int = 100
    """Optimizer steps of the whole run: loop steps x epochs x mini_batches. The cosine ends there at 0."""
    weight_decay: float = 0.1
    """Applied to matrices only, not to norms and biases."""
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8
    grad_clip: float = 1.0
    """Largest global gradient norm."""
    mini_batches: int = 1
    """Optimizer steps per pass over a batch; the paper's scripts make 2."""
    epochs: int = 1
    """Passes over a batch."""
    micro_batch_tokens: int = 4096
    """Largest number of padded tokens in one forward pass. Affects memory, not the numbers."""
    dtype: Dtype = "float32"
    """Type of the weights in forward and backward passes. bfloat16 keeps fp32 master weights."""
    gradient_checkpointing: bool | None = None
    """Whether activations are computed again in the backward pass instead of kept: a third more time, a tenth
    of their memory. None: for models of at least 300 million parameters."""
    lora: LoraConfig | None = None
    """Trains a low-rank adapter and freezes the rest; None trains every weight."""
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        """Check every setting."""
        above(0, learning_rate=self.learning_rate, adam_eps=self.adam_eps, grad_clip=self.grad_clip)
        at_least(
            1,
            total_updates=self.total_updates,
            mini_batches=self.mini_batches,
            epochs=self.epochs,
            micro_batch_tokens=self.micro_batch_tokens,
        )
        within(0, 1, warmup_fraction=self.warmup_fraction)
        at_least(0, weight_decay=self.weight_decay)
        one_of(("cosine", "constant"), schedule=self.schedule)
        one_of(("float32", "bfloat16"), dtype=self.dtype)


def learning_rate_at(config: LearnerConfig, update: int) -> float:
    """Return the learning rate of one optimizer step, a function of its index only.

        lr(u) = peak * (u + 1) / W                                  u < W = ceil(warmup_fraction * total)
        lr(u) = peak * (1 + cos(pi * (u - W) / (total - W))) / 2    cosine, afterwards

    Args:
        config: peak, schedule and lengths.
        update: optimizer steps made before this one.
    """
    warmup = math.ceil(config.warmup_fraction * config.total_updates)
    if update < warmup:
        return config.learning_rate * (update + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    progress = min(1.0, (update - warmup) / max(1, config.total_updates - warmup))
    return config.learning_rate * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True, slots=True)
class UpdateOutcome:
    """The outcome of one update call, equal on every rank."""

    metrics: dict[str, float]
    num_updates: int
    """Optimizer steps made."""


def batch_shares(batch: TokenBatch, config: LearnerConfig, *, world_size: int) -> list[RankShare]:
    """Split a batch over optimizer steps, ranks and micro-batches, as the config says.

    Raises:
        LearnerError: the engine's log probabilities are not finite.
    """
    return rank_shares(
        batch,
        num_mini_batches=config.mini_batches,
        micro_batch_tokens=config.micro_batch_tokens,
        world_size=world_size,
    )


def run_update(
    stepper: Stepper, share: RankShare, *, config: LearnerConfig, first_update: int, ranks: Ranks
) -> UpdateOutcome:
    """Make every optimizer step of a batch: mini-batches x epochs, each over all ranks.

    With several optimizer steps the "old" log probabilities of the clipped ratio are computed before the
    first. With a single step the ratio is 1 and the forward pass itself computes them. A mini-batch without
    trained tokens makes no step.

    Args:
        stepper: the engine.
        share: this rank's part of the batch.
        config: optimizer, schedule and loss.
        first_update: optimizer steps made before this call, for the schedule.
        ranks: the processes that share the update.

    Returns:
        The learner's metrics of `metrics.METRICS`, reduced over micro-batches and ranks.

    Raises:
        LearnerError: a loss or a gradient norm is not finite, and the weights are unusable.
    """
    plans = share.mini_batches
    tally = _Tally()
    old: list[list[torch.Tensor | None]] = [[None for _ in plan] for plan in plans]
    if len(plans) * config.epochs > 1:
        old = [[_frozen_logprobs(stepper, micro) for micro in plan] for plan in plans]
    norms: list[float] = []
    rate = 0.0
    for epoch in range(config.epochs):
        for plan, plan_old in zip(plans, old, strict=True):
            for index, (micro, micro_old) in enumerate(zip(plan, plan_old, strict=True)):
                is_last = index == len(plan) - 1
                _learn(
                    stepper,
                    micro,
                    micro_old,
                    config=config,
                    tally=tally,
                    is_first_pass=epoch == 0,
                    is_last=is_last,
                )
            if stepper.device.type == "cpu":
                release_freed_memory()
            rate = learning_rate_at(config, first_update + len(norms))
            norms.append(_finite(stepper.step(rate), "gradient norm", share.step))
    metrics = tally.metrics(ranks, num_updates=len(norms))
    _finite(metrics["loss"], "loss", share.step)
    return UpdateOutcome(
        metrics={
            **metrics,
            "grad_norm": float(np.mean(norms)) if norms else 0.0,
            "grad_norm_max": max(norms, default=0.0),
            "learning_rate": rate,
            "trained_tokens": float(share.loss_tokens),
            "trained_turns": float(share.loss_turns),
            "optimiser_steps": float(len(norms)),
        },
        num_updates=len(norms),
    )


_SUMS = (
    "loss", "tokens", "clipped", "dual_clipped", "importance_capped", "ratio", "kl",
    "first_tokens", "difference", "surprise",
)  # fmt: skip


@dataclass(slots=True)
class _Tally:
    """Running sums of one rank in float64, reduced over the ranks once at the end."""

    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_SUMS, 0.0))
    largest_difference: float = 0.0

    def add(self, terms: LossTerms) -> None:
        """Add the loss terms of one micro-batch."""
        self.sums["loss"] += float(terms.loss.detach())
        for name, value in terms.metrics.items():
            if name in self.sums:
                self.sums[name] += float(value)

    def compare(self, old: torch.Tensor, behaviour: torch.Tensor, mask: torch.Tensor) -> None:
        """Add |learner - engine| log probabilities, before the weights change."""
        trained = old[mask].double()
        difference = (trained - behaviour[mask].double()).abs()
        self.sums["first_tokens"] += trained.numel()
        self.sums["surprise"] -= float(trained.sum())
        self.sums["difference"] += float(difference.sum())
        if difference.numel():
            self.largest_difference = max(self.largest_difference, float(difference.max()))

    def metrics(self, ranks: Ranks, *, num_updates: int) -> dict[str, float]:
        """Sum over the ranks and divide by the counts."""
        total = dict(zip(_SUMS, ranks.sum(np.array([self.sums[name] for name in _SUMS])), strict=True))
        tokens, first = max(total["tokens"], 1.0), max(total["first_tokens"], 1.0)
        return {
            "loss": float(total["loss"]) / max(num_updates, 1),
            "clip_fraction": float(total["clipped"] / tokens),
            "dual_clip_fraction": float(total["dual_clipped"] / tokens),
            "importance_capped_fraction": float(total["importance_capped"] / tokens),
            "ratio_mean": float(total["ratio"] / tokens),
            "kl": float(total["kl"] / tokens),
            "entropy": float(total["surprise"] / first),
            "logprob_difference_mean": float(total["difference"] / first),
            "logprob_difference_max": float(ranks.max(np.array([self.largest_difference]))[0]),
        }


def _learn(
    stepper: Stepper,
    micro: TokenBatch,
    old: torch.Tensor | None,
    *,
    config: LearnerConfig,
    tally: _Tally,
    is_first_pass: bool,
    is_last: bool,
) -> None:
    """Run one micro-batch forward and backward and add its terms to the tally."""
    import torch

    tensors = {
        name: torch.as_tensor(getattr(micro, name), device=stepper.device)
        for name in ("token_ids", "behaviour_logprobs", "advantages", "loss_mask", "turn_ids")
    }
    # Sent and moved to the device as int32; torch indexes with int64.
    token_ids, turn_ids = tensors["token_ids"].long(), tensors["turn_ids"].long()
    mask = tensors["loss_mask"]
    reference = None
    if config.loss.kl_coefficient > 0:
        # Before the policy: with an adapter both are one model, whose backward pass must follow its forward.
        with torch.no_grad():
            reference = stepper.reference_logprobs(token_ids, mask, micro.temperature)
    logprobs = stepper.logprobs(token_ids, mask, micro.temperature)
    frozen = logprobs.detach() if old is None else old.to(stepper.device)
    if is_first_pass:
        tally.compare(frozen, tensors["behaviour_logprobs"], mask)
    terms = policy_loss(
        logprobs,
        frozen,
        behaviour_logprobs=tensors["behaviour_logprobs"],
        advantages=tensors["advantages"],
        mask=mask,
        turn_ids=turn_ids,
        config=config.loss,
        loss_tokens=micro.loss_tokens,
        loss_turns=micro.loss_turns,
        reference_logprobs=reference,
    )
    tally.add(terms)
    stepper.backward(terms.loss, is_last=is_last)


def _frozen_logprobs(stepper: Stepper, micro: TokenBatch) -> torch.Tensor:
    """Return the learner's log probabilities of a micro-batch, without gradient, on the CPU."""
    import torch

    token_ids = torch.as_tensor(micro.token_ids, device=stepper.device).long()
    mask = torch.as_tensor(micro.loss_mask, device=stepper.device)
    with torch.no_grad():
        return stepper.logprobs(token_ids, mask, micro.temperature).cpu()


def _finite(value: float, name: str, step: int) -> float:
    """Return the value if it is finite.

    Raises:
        LearnerError: the value is NaN or infinite.
    """
    if not math.isfinite(value):
        raise LearnerError(
            f"The {name} of step {step} is {value}. Rerun with --resume and a lower learner.learning_rate or "
            "learner.grad_clip."
        )
    return value
