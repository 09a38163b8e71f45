"""Token log probabilities and the policy loss: PPO with clip-higher and dual clip, REINFORCE, KL penalty.

Pure functions of tensors; no model, no optimiser. A loss is a sum over the tokens given divided by a count of
the whole optimiser step, so that micro-batches and ranks add up exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

LossKind = Literal["ppo", "reinforce"]
KlEstimator = Literal["k1", "k2", "k3"]
Aggregation = Literal["token_mean", "turn_mean"]

MAX_LOG_RATIO = 20.0
"""Nats; a larger log ratio is cut before exp so that one token cannot make the loss infinite."""


@dataclass(frozen=True, slots=True)
class LossConfig:
    """How advantages become a loss. The defaults are those of the MICA scripts."""

    kind: LossKind = "ppo"
    """"ppo": clipped surrogate. "reinforce": -A log pi, the paper's on-policy form; never clipped."""
    clip_low: float = 0.2
    """The ratio is clipped below at 1 - clip_low."""
    clip_high: float = 0.28
    """The ratio is clipped above at 1 + clip_high (clip-higher, DAPO)."""
    dual_clip: float | None = 10.0
    """c: for a negative advantage the loss is at most -c A. None switches it off."""
    kl_coefficient: float = 0.0
    """Weight of the KL penalty to the reference; 0 needs no reference."""
    kl_estimator: KlEstimator = "k2"
    """With d = log pi - log pi_ref: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d. As a loss, k1 has a gradient
    of zero in expectation, so "k1" reports d and takes the gradient of k2, which is the KL's own on
    policy."""
    importance_cap: float | None = None
    """Cap of the truncated importance weight min(exp(old - behaviour), cap); None leaves the engine/learner
    mismatch uncorrected."""
    aggregation: Aggregation = "token_mean"
    """Mean over all trained tokens, or over turns of each turn's mean."""

    def __post_init__(self) -> None:
        """Refuse names and numbers that make no loss."""
        for name, value, allowed in (
            ("kind", self.kind, get_args(LossKind)),
            ("kl_estimator", self.kl_estimator, get_args(KlEstimator)),
            ("aggregation", self.aggregation, get_args(Aggregation)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
        if not 0 <= self.clip_low < 1:
            raise ValueError(f"clip_low must be in [0, 1); got {self.clip_low}")
        if self.clip_high < 0:
            raise ValueError(f"clip_high must be >= 0; got {self.clip_high}")
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise ValueError(f"dual_clip must be > 1 or None; got {self.dual_clip}")
        if self.kl_coefficient < 0:
            raise ValueError(f"kl_coefficient must be >= 0; got {self.kl_coefficient}")
        if self.importance_cap is not None and self.importance_cap <= 0:
            raise ValueError(f"importance_cap must be > 0 or None; got {self.importance_cap}")


@dataclass(frozen=True, slots=True)
class LossTerms:
    """One micro-batch's share of the loss, and what it is made of."""

    loss: Tensor
    """[], with gradient; the shares of all micro-batches and ranks add up to the optimiser step's loss."""
    metrics: Mapping[str, Tensor]
    """Detached sums over trained tokens, [] each, to be added over micro-batches and ranks and divided by
    "tokens": "tokens"; "clipped" and "dual_clipped" and "importance_capped" (tokens); "ratio" and
    "ratio_squared" (no unit); "kl" (nats, to the reference); "mismatch" (nats, |old - behaviour|)."""


def token_logprobs(logits: Tensor, token_ids: Tensor, temperature: float = 1.0) -> Tensor:
    """Give the log probability of each token from the logits of the column before it.

        log pi(x_l) = z_{l-1}[x_l] / temperature - logsumexp(z_{l-1} / temperature)

    No second [R, L, V] tensor of probabilities is made; at temperature 1 in fp32 the logits serve.

    Args:
        logits: [R, L, V], any float type; computed in fp32.
        token_ids: [R, L] int64.
        temperature: of the sampling the log probabilities refer to.

    Returns:
        [R, L] float32, nats; column 0, which nothing predicts, is 0.

    Raises:
        ValueError: temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0 (greedy replies cannot be trained on); got {temperature}")
    scores = logits[:, :-1].float()
    if temperature != 1.0:
        scores = scores / temperature
    chosen = scores.gather(-1, token_ids[:, 1:, None]).squeeze(-1)
    return torch.nn.functional.pad(chosen - torch.logsumexp(scores, dim=-1), (1, 0))


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
    """Give these tokens' share of the loss of the optimiser step.

        ratio = exp(logprobs - old)
        ppo        l = max(-A ratio, -A clip(ratio, 1 - low, 1 + high));  l = min(l, -c A) where A < 0
        reinforce  l = -A logprobs
        loss = sum(w l + kl_coefficient kl) / count

    w = min(exp(old - behaviour), cap), no gradient. token_mean: count = loss_tokens. turn_mean: each token is
    divided by the tokens of its turn, count = loss_turns; a turn's tokens must all be in this call. Without
    trained tokens the loss is 0 and still has a (zero) gradient.

    Args:
        logprobs: [R, L], nats, with gradient.
        old_logprobs: [R, L], nats, the learner's own at the start of the batch; the behaviour's (or detached
            logprobs) when the batch makes a single optimiser step.
        behaviour_logprobs: [R, L], nats, as the engine reported them.
        advantages: [R, L].
        mask: [R, L] bool, trained tokens; everything outside may hold anything.
        turn_ids: [R, L] int64, >= 0 inside the mask.
        config: the form of the loss.
        loss_tokens: trained tokens of the whole optimiser step.
        loss_turns: trained turns of the whole optimiser step.
        reference_logprobs: [R, L], nats; needed when kl_coefficient > 0, otherwise only measured.

    Returns:
        The loss share and sums of what it is made of.

    Raises:
        ValueError: a KL penalty is asked for without reference log probabilities.
    """
    if config.kl_coefficient > 0 and reference_logprobs is None:
        raise ValueError("kl_coefficient > 0 needs reference_logprobs")
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
