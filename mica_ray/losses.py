"""The policy loss: PPO or REINFORCE, with a KL penalty.

Pure functions of log probabilities (head_logprobs.py), without model or optimizer. Each loss is a sum over
its tokens divided by a count of the whole optimizer step: micro-batches and ranks add up exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from mica_ray.checks import above, at_least, one_of

LossKind = Literal["ppo", "reinforce"]
KlEstimator = Literal["k1", "k2", "k3"]
Aggregation = Literal["token_mean", "turn_mean"]

MAX_LOG_RATIO = 20.0
"""Nats. Larger log ratios are cut before exp, so that a single token cannot make the loss infinite."""


@dataclass(frozen=True, slots=True)
class LossConfig:
    """The form of the policy loss. The defaults are those of the MICA scripts.

    >>> LossConfig(kind="trpo")
    Traceback (most recent call last):
    ValueError: kind must be 'ppo' or 'reinforce', got 'trpo'.
    """

    kind: LossKind = "ppo"
    """"ppo": clipped surrogate. "reinforce": -A log pi without clipping, the paper's on-policy form."""
    clip_low: float = 0.2
    """The ratio is clipped below at 1 - clip_low, in [0, 1)."""
    clip_high: float = 0.28
    """The ratio is clipped above at 1 + clip_high (clip-higher, DAPO)."""
    dual_clip: float | None = 10.0
    """c > 1: for a negative advantage the loss is at most -c A. None: no dual clip."""
    kl_coefficient: float = 0.0
    """Weight of the KL penalty to the reference policy; 0 needs no reference."""
    kl_estimator: KlEstimator = "k2"
    """With d = log pi - log pi_ref: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d. The expected gradient of k1
    is zero, so "k1" reports d with the gradient of k2, which is the gradient of the KL on policy."""
    importance_cap: float | None = None
    """Cap of the truncated importance weight min(exp(old - behaviour), cap). None: no correction of the
    difference between engine and learner."""
    aggregation: Aggregation = "token_mean"
    """"token_mean": mean over all trained tokens. "turn_mean": mean over turns of each turn's token mean."""

    def __post_init__(self) -> None:
        """Check names and ranges."""
        one_of(get_args(LossKind), kind=self.kind)
        one_of(get_args(KlEstimator), kl_estimator=self.kl_estimator)
        one_of(get_args(Aggregation), aggregation=self.aggregation)
        at_least(0, clip_high=self.clip_high, kl_coefficient=self.kl_coefficient)
        if not 0 <= self.clip_low < 1:
            raise ValueError(f"clip_low must be in [0, 1), got {self.clip_low}.")
        if self.dual_clip is not None:
            above(1, dual_clip=self.dual_clip)
        if self.importance_cap is not None:
            above(0, importance_cap=self.importance_cap)


@dataclass(frozen=True, slots=True)
class LossTerms:
    """One micro-batch's share of the loss, and sums of its components."""

    loss: Tensor
    """[], with gradient. The shares of all micro-batches and ranks sum to the loss of the optimizer step."""
    metrics: Mapping[str, Tensor]
    """Detached sums over trained tokens, [] each. Add them over micro-batches and ranks, then divide by
    "tokens". Keys: "tokens"; "clipped", "dual_clipped" and "importance_capped" (tokens); "ratio" and
    "ratio_squared" (no unit); "kl" (nats, to the reference); "mismatch" (nats, |old - behaviour|)."""


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    *,
    behaviour_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    turn_ids: Tensor,
    config: LossConfig,
    loss_tokens: int,
    loss_turns: int,
    reference_logprobs: Tensor | None = None,
) -> LossTerms:
    """Compute these tokens' share of the loss of the optimizer step.

        ratio = exp(logprobs - old)
        ppo        l = max(-A ratio, -A clip(ratio, 1 - low, 1 + high));  l = min(l, -c A) where A < 0
        reinforce  l = -A logprobs
        loss = sum(w l + kl_coefficient kl) / count

    w = min(exp(old - behaviour), cap), without gradient. token_mean: count = loss_tokens. turn_mean: each
    token is divided by the number of tokens of its turn, and count = loss_turns; all tokens of a turn must be
    in one call. Without trained tokens the loss is 0 and has a zero gradient.

    >>> on_policy = torch.tensor([[0.0, -1.0]])
    >>> policy_loss(    # the ratio is 1, so the loss of the single trained token is -A
    ...     on_policy, on_policy, behaviour_logprobs=on_policy, advantages=torch.tensor([[0.0, 0.5]]),
    ...     mask=torch.tensor([[False, True]]), turn_ids=torch.tensor([[-1, 0]]), config=LossConfig(),
    ...     loss_tokens=1, loss_turns=1,
    ... ).loss
    tensor(-0.5000)

    Args:
        logprobs: [R, L], nats, with gradient.
        old_logprobs: [R, L], nats, the learner's own at the start of the batch. For a batch of a single
            optimizer step: the engine's, or `logprobs` detached.
        behaviour_logprobs: [R, L], nats, as reported by the engine.
        advantages: [R, L].
        mask: [R, L] bool, trained tokens. Values outside the mask are ignored, in all arguments.
        turn_ids: [R, L] int64, >= 0 inside the mask.
        config: the form of the loss.
        loss_tokens: trained tokens of the whole optimizer step.
        loss_turns: trained turns of the whole optimizer step.
        reference_logprobs: [R, L], nats. Required if kl_coefficient > 0, otherwise only measured.

    Returns:
        The share of the loss, and sums of its components.

    Raises:
        ValueError: kl_coefficient > 0 without reference log probabilities.
    """
    if config.kl_coefficient > 0 and reference_logprobs is None:
        raise ValueError(
            f"kl_coefficient={config.kl_coefficient} needs reference_logprobs. Pass them, or set it to 0."
        )
    new = logprobs[mask].float()
    old = old_logprobs[mask].float().detach()
    advantage = advantages[mask].float()
    mismatch = old - behaviour_logprobs[mask].float().detach()
    per_token, metrics = _surrogate(new, old, advantage, config)
    if config.importance_cap is not None:
        weight = mismatch.clamp(max=MAX_LOG_RATIO).exp()
        metrics["importance_capped"] = (weight > config.importance_cap).sum()
        per_token = per_token * weight.clamp(max=config.importance_cap)
    if reference_logprobs is not None:
        kl = _kl(new, reference_logprobs[mask].float().detach(), config.kl_estimator)
        metrics["kl"] = kl.detach().sum()
        if config.kl_coefficient > 0:
            per_token = per_token + config.kl_coefficient * kl
    metrics["mismatch"] = mismatch.abs().sum()
    if config.aggregation == "token_mean":
        total, count = per_token.sum(), loss_tokens
    else:
        turns = turn_ids[mask]
        total, count = (per_token / torch.bincount(turns)[turns]).sum(), loss_turns
    return LossTerms(loss=total / max(count, 1), metrics=metrics)


def _surrogate(
    new: Tensor, old: Tensor, advantage: Tensor, config: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    ratio = (new - old).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    none = torch.zeros((), device=new.device)
    metrics = {
        "tokens": none + new.numel(),
        "clipped": none,
        "dual_clipped": none,
        "importance_capped": none,
        "ratio": ratio.detach().sum(),
        "ratio_squared": ratio.detach().square().sum(),
        "kl": none,
    }
    if config.kind == "reinforce":
        return -advantage * new, metrics
    free = -advantage * ratio
    clipped = -advantage * ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    per_token = torch.maximum(free, clipped)
    metrics["clipped"] = (clipped > free).sum()
    if config.dual_clip is not None:
        ceiling = -config.dual_clip * advantage
        is_cut = (advantage < 0) & (per_token > ceiling)
        per_token = torch.where(is_cut, ceiling, per_token)
        metrics["dual_clipped"] = is_cut.sum()
    return per_token, metrics


def _kl(new: Tensor, reference: Tensor, estimator: KlEstimator) -> Tensor:
    difference = new - reference
    square = 0.5 * difference.square()
    if estimator == "k2":
        return square
    if estimator == "k1":
        return square + (difference - square).detach()
    return torch.expm1(-difference.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)) + difference
