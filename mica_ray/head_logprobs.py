"""Log probabilities of tokens from hidden states, without the logits of the whole vocabulary.

A pure function of tensors. training/logprob_model.py runs it inside a model; losses.py consumes the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from mica_ray.checks import above

CHUNK_SCORES = 2**21
"""Scores in memory at once on a CPU, 8 MiB in fp32; 2^20 to 2^24 take equal time for 1,024 tokens."""
GPU_CHUNK_SCORES = 2**26
"""Scores in memory at once on a GPU, 256 MiB in fp32: 2,700 columns for 25,000 tokens, enough for its
matrix units. An estimate: no GPU has run it yet."""


@dataclass(frozen=True, slots=True)
class ScoreTransform:
    """How a model turns the products of its head into logits: z = softcap tanh(scale x / softcap).

    Granite and Cohere scale, Gemma caps. Neither is part of the head's weights.
    """

    scale: float = 1.0
    softcap: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        above(0, scale=self.scale)
        if self.softcap is not None:
            above(0, softcap=self.softcap)

    def scores(self, products: Tensor, temperature: float) -> Tensor:
        """Return logits over temperature. May overwrite its argument."""
        if self.scale != 1.0:
            products = products.mul_(self.scale)
        if self.softcap is not None:
            products = products.div_(self.softcap).tanh_().mul_(self.softcap)
        return products if temperature == 1.0 else products.div_(temperature)

    def slope(self, scores: Tensor, temperature: float) -> Tensor | float:
        """Return the derivative of `scores` with respect to the products, from the scores."""
        slope = self.scale / temperature
        if self.softcap is None:
            return slope
        return (1 - (scores * (temperature / self.softcap)).square()).mul_(slope)


def head_logprobs(
    hidden: Tensor,
    weight: Tensor,
    token_ids: Tensor,
    *,
    bias: Tensor | None = None,
    transform: ScoreTransform | None = None,
    temperature: float = 1.0,
    chunk_scores: int | None = None,
) -> Tensor:
    """Return the log probability of each token under a language model's head.

        z = transform(hidden weight^T + bias) / temperature
        log pi(x_n) = z_n[x_n] - logsumexp(z_n)

    The vocabulary is divided into chunks, so that at most `chunk_scores` scores exist at once; the backward
    pass computes them again. Sums run in fp32, and each entry of the gradient is rounded once.
    torch.nn.functional.linear_cross_entropy also works in chunks, but computes its gradient in the forward
    pass, when the weights of the tokens (advantage times ratio) are not known, and has no softcap.

    >>> hidden, weight = torch.tensor([[1.0]]), torch.log(torch.tensor([[1.0], [3.0]]))   # odds 1 : 3
    >>> head_logprobs(hidden, weight, torch.tensor([1])).exp()
    tensor([0.7500])

    Args:
        hidden: [N, H], states before each token.
        weight: [V, H], of the head.
        token_ids: [N] int64.
        bias: [V], of the head.
        transform: what the model does after its head; None for nothing.
        temperature: sampling temperature of the log probabilities.
        chunk_scores: maximum number of scores in memory. Affects memory, not the numbers. None: the number
            for the device.

    Returns:
        [N] float32, nats.

    Raises:
        ValueError: temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(
            f"temperature must be > 0, got {temperature}. Greedy replies have no log probability to train on."
        )
    # torch does not type apply.
    function = cast("Callable[..., Tensor]", _HeadLogprobs.apply)  # pyright: ignore[reportUnknownMemberType]
    if chunk_scores is None:
        chunk_scores = CHUNK_SCORES if hidden.device.type == "cpu" else GPU_CHUNK_SCORES
    size = max(1, chunk_scores // max(1, hidden.shape[0]))
    return function(hidden, weight, bias, token_ids, transform or ScoreTransform(), temperature, size)


class _HeadLogprobs(torch.autograd.Function):
    """Forward: one pass over the vocabulary. Backward: the scores again, then both products."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        token_ids: Tensor,
        transform: ScoreTransform,
        temperature: float,
        size: int,
    ) -> Tensor:
        """Return [N] log probabilities; keep the log normalizers."""
        normalizer = torch.full(token_ids.shape, -torch.inf, device=hidden.device)
        chosen = torch.zeros(token_ids.shape, device=hidden.device)
        for vocabulary in _slices(weight.shape[0], size):
            scores = transform.scores(_products(hidden, weight, bias, vocabulary), temperature)
            is_here, column = _columns(token_ids, vocabulary)
            picked = scores.gather(1, column[:, None]).squeeze(1)
            chosen = torch.where(is_here, picked, chosen)
            normalizer = torch.logaddexp(normalizer, torch.logsumexp(scores, dim=1))
        ctx.save_for_backward(hidden, weight, bias, token_ids, normalizer)
        ctx.transform, ctx.temperature, ctx.size = transform, temperature, size
        return chosen - normalizer

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of hidden, weight and bias: d log pi / d z = 1[x] - softmax(z)."""
        hidden, weight, bias, token_ids, normalizer = ctx.saved_tensors
        (upstream,) = grad_outputs
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.zeros(hidden.shape, device=hidden.device) if needs_hidden else None
        d_weight = torch.empty_like(weight) if needs_weight else None
        d_bias = torch.empty_like(bias) if needs_bias else None
        rows = torch.arange(len(token_ids), device=hidden.device)
        for vocabulary in _slices(weight.shape[0], ctx.size):
            scores = ctx.transform.scores(_products(hidden, weight, bias, vocabulary), ctx.temperature)
            slope = ctx.transform.slope(scores, ctx.temperature)
            gradient = scores.sub_(normalizer[:, None]).exp_().mul_(-upstream[:, None])
            is_here, column = _columns(token_ids, vocabulary)
            gradient.index_put_((rows, column), upstream * is_here, accumulate=True)
            gradient = gradient.mul_(slope)
            if d_bias is not None:
                d_bias[vocabulary] = gradient.sum(dim=0).to(d_bias.dtype)
            gradient = gradient.to(hidden.dtype)
            if d_hidden is not None:
                d_hidden += gradient @ weight[vocabulary]
            if d_weight is not None:
                torch.mm(gradient.T, hidden, out=d_weight[vocabulary])
        return None if d_hidden is None else d_hidden.to(hidden.dtype), d_weight, d_bias, *(None,) * 4


def _slices(vocabulary: int, size: int) -> Iterator[slice]:
    for start in range(0, vocabulary, size):
        yield slice(start, min(start + size, vocabulary))


def _products(hidden: Tensor, weight: Tensor, bias: Tensor | None, vocabulary: slice) -> Tensor:
    """Return the head's products [N, C] in fp32, rounded to the type of the weights as in the model."""
    part = None if bias is None else bias[vocabulary]
    return torch.nn.functional.linear(hidden, weight[vocabulary], part).float()


def _columns(token_ids: Tensor, vocabulary: slice) -> tuple[Tensor, Tensor]:
    """Return whether each token is in a slice of the vocabulary, and its column there (else any column)."""
    is_here = (token_ids >= vocabulary.start) & (token_ids < vocabulary.stop)
    return is_here, torch.where(is_here, token_ids - vocabulary.start, 0)
