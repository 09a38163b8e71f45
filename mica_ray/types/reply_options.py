"""Options of one reply that only the service offers, next to `Sampling`, and what they return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mica_ray.checks import above, at_least, within
from mica_ray.types.dialogue import Sampling


@dataclass(frozen=True, slots=True)
class ReplyOptions:
    """How to sample a reply, beyond `Sampling`; the defaults change nothing.

    Not part of `Sampling`: its fields are hashed into recordings, which must stay readable. A presence
    penalty is in both; the one here takes the place of the other.

    >>> ReplyOptions(min_p=2)
    Traceback (most recent call last):
    ValueError: min_p must be in [0, 1], got 2.
    """

    presence_penalty: float = 0.0
    """Subtracted from the logit of each token that the reply contains."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit, times its count in the reply."""
    repetition_penalty: float = 1.0
    """Positive logits of tokens of prompt and reply are divided by it, negative ones multiplied."""
    top_k: int = 0
    """Number of most likely tokens to sample from; 0 samples from all."""
    min_p: float = 0.0
    """Least probability of a token, as a fraction of the most likely token's."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token id and what is added to its logit."""
    top_logprobs: int | None = None
    """Number of most likely tokens to return with each sampled one; None returns no log probabilities."""
    schema: Mapping[str, object] | None = None
    """JSON schema of the reply; None for free text."""
    adapter: str = ""
    """Id of a served adapter of the engine's model; empty for the engine's own weights."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        within(-2, 2, presence_penalty=self.presence_penalty, frequency_penalty=self.frequency_penalty)
        above(0, repetition_penalty=self.repetition_penalty)
        within(0, 1, min_p=self.min_p)
        at_least(0, top_k=self.top_k, top_logprobs=self.top_logprobs or 0)

    @classmethod
    def of(cls, sampling: Sampling) -> ReplyOptions:
        """Return the options of a reply for which only its sampling is known."""
        return cls(presence_penalty=sampling.presence_penalty)

    @property
    def changes_logits(self) -> bool:
        """Whether the distribution differs from that of `Sampling` by itself."""
        return bool(
            self.presence_penalty
            or self.frequency_penalty
            or self.repetition_penalty != 1
            or self.top_k
            or self.min_p
            or self.logit_bias
        )


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One sampled token and the most likely ones at its place."""

    token_id: int
    logprob: float
    """Nats, under the distribution it was sampled from; -inf for a token that could not be sampled."""
    top: tuple[tuple[int, float], ...] = ()
    """Token id and log probability, the most likely first."""
