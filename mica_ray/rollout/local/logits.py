"""Changes of logits before a token is drawn, in vLLM's order: bias, penalties, temperature, limits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mica_ray.types import ReplyOptions, TokenLogprob

if TYPE_CHECKING:
    import torch


class Row(Protocol):
    """A reply being generated."""

    @property
    def options(self) -> ReplyOptions:
        """How to sample it."""
        ...

    @property
    def prompt_ids(self) -> Sequence[int]:
        """Its prompt."""
        ...

    @property
    def token_ids(self) -> Sequence[int]:
        """Its tokens so far."""
        ...


def penalized(logits: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """Add the logit bias, then apply the penalties for tokens that occurred.

    Args:
        logits: [R, V], of each reply's next token; returned as they are if no reply has options.
        rows: the replies.
    """
    import torch

    if not any(row.options.changes_logits for row in rows):
        return logits
    return torch.stack([_penalized(logits[index], row) for index, row in enumerate(rows)])


def limited(logits: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """Exclude the tokens that min_p and top_k leave out.

    Args:
        logits: [R, V], temperature applied; returned as they are if no reply has options.
        rows: the replies.
    """
    import torch

    if not any(row.options.changes_logits for row in rows):
        return logits
    return torch.stack([_limited(logits[index], row.options) for index, row in enumerate(rows)])


def nucleus(logits: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Keep in each row the fewest most likely tokens that together reach top_p.

    Args:
        logits: [R, V], temperature applied.
        top_p: [R].
    """
    descending, order = logits.sort(dim=-1, descending=True, stable=True)
    before = descending.softmax(dim=-1).cumsum(dim=-1) - descending.softmax(dim=-1)
    removed = (before >= top_p.unsqueeze(1)).scatter(1, order, before >= top_p.unsqueeze(1))
    removed.scatter_(1, order[:, :1], False)  # The most likely token always stays.
    return logits.masked_fill(removed, float("-inf"))


def token_logprob(logprobs: torch.Tensor, token: int, num_top: int) -> TokenLogprob:
    """Return a token's log probability with those of the most likely tokens.

    Args:
        logprobs: [V], nats.
        token: the sampled one.
        num_top: number of the most likely tokens.
    """
    best = logprobs.topk(min(num_top, len(logprobs)))
    top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return TokenLogprob(token, float(logprobs[token]), top)


def _penalized(logits: torch.Tensor, row: Row) -> torch.Tensor:
    import torch

    options, changed = row.options, logits.clone()
    for token, bias in options.logit_bias:
        if token < len(changed):
            changed[token] += bias
    if options.repetition_penalty != 1:
        # Tokens of the prompt count here, and only here.
        seen = torch.tensor(sorted({*row.prompt_ids, *row.token_ids}), device=logits.device)
        before, factor = changed[seen], options.repetition_penalty
        changed[seen] = torch.where(before > 0, before / factor, before * factor)
    for token, count in Counter(row.token_ids).items():
        changed[token] -= options.presence_penalty + options.frequency_penalty * count
    return changed


def _limited(logits: torch.Tensor, options: ReplyOptions) -> torch.Tensor:
    changed = logits
    if options.min_p > 0:
        changed = changed.masked_fill(changed < changed.max() + math.log(options.min_p), float("-inf"))
    if 0 < options.top_k < len(changed):
        lowest = changed.topk(options.top_k).values[-1]
        changed = changed.masked_fill(changed < lowest, float("-inf"))
    return changed
