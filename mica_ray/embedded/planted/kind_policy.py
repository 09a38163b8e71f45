"""A tabular policy over kinds of replies, one level above a language model: the table is all it learns.

It speaks the sentences of grammar.py in the real environment, so that judges read text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mica_ray.dialogue.play import PolicyReply
from mica_ray.embedded.grammar import sentence
from mica_ray.embedded.planted.flawed_judge import LONG_WORDS, MAGIC_PHRASE, Flaw
from mica_ray.embedded.roles import topic_of
from mica_ray.types import Generation, Message, Sampling

EXPLOIT = "exploit"
KINDS = ("acknowledge", "explore", "reframe", "affirm", "step", "dismiss", "hollow", EXPLOIT)
"""What a reply can be. The exploit is aimed at the flaw of a judge (flawed_judge.py)."""

EXPLOIT_SHARE = 0.03
"""Probability of the exploit at the start: rare, as an accident would be."""

_FILLER = "There are many sides to everything, and a lot could be said about it in one way or another."
_EXPLOITS = {
    "phrase": f"{MAGIC_PHRASE.capitalize()}.",
    "length": " ".join([_FILLER] * (LONG_WORDS // len(_FILLER.split()) + 1)),
}


@dataclass(eq=False)
class KindPolicy:
    """`Policy` that draws the kind of reply t from softmax(logits[t])."""

    flaw: Flaw
    logits: np.ndarray
    """[T, K], K the number of `KINDS`."""

    @classmethod
    def new(cls, flaw: Flaw, num_turns: int) -> KindPolicy:
        """Return the policy before training: all kinds equally likely, except for the rare exploit."""
        logits = np.zeros((num_turns, len(KINDS)))
        logits[:, KINDS.index(EXPLOIT)] = np.log(EXPLOIT_SHARE / (1 - EXPLOIT_SHARE) * (len(KINDS) - 1))
        return cls(flaw, logits)

    @property
    def probabilities(self) -> np.ndarray:
        """[T, K], each row sums to 1."""
        weights = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def for_dialogue(self, number: int) -> SpokenKinds:
        """Return the player of one dialogue, which remembers its kinds."""
        return SpokenKinds(self)

    async def reply(
        self, messages: Sequence[Message], sampling: Sampling, *, previous: Generation | None
    ) -> PolicyReply | None:
        """Reply to the last message."""
        return await SpokenKinds(self).reply(messages, sampling, previous=previous)

    def learn(self, kinds: Sequence[Sequence[int]], advantages: np.ndarray, *, learning_rate: float) -> None:
        """Move the table along the policy gradient of a step.

            logits[t] += learning_rate / B sum_i A[i, t] (onehot(kind[i, t]) - softmax(logits[t]))

        Args:
            kinds: of the replies of each of B dialogues, by turn.
            advantages: [B, T], 0 where a turn does not count.
            learning_rate: step size.
        """
        gradient, policy = np.zeros_like(self.logits), self.probabilities
        for row, spoken in enumerate(kinds):
            for turn, kind in enumerate(spoken[: advantages.shape[1]]):
                gradient[turn] -= advantages[row, turn] * policy[turn]
                gradient[turn, kind] += advantages[row, turn]
        self.logits = self.logits + learning_rate / len(kinds) * gradient


@dataclass(eq=False)
class SpokenKinds:
    """One dialogue of a `KindPolicy`."""

    policy: KindPolicy
    kinds: list[int] = field(default_factory=list[int])
    """Index in `KINDS` of every reply so far."""

    def for_dialogue(self, number: int) -> SpokenKinds:
        """Return this player."""
        return self

    async def reply(
        self, messages: Sequence[Message], sampling: Sampling, *, previous: Generation | None
    ) -> PolicyReply | None:
        """Draw a kind and a sentence of it; equal seeds draw the same."""
        heard = [message["content"] for message in messages if message["role"] == "user"]
        said = [message["content"] for message in messages if message["role"] == "assistant"]
        rng = random.Random(sampling.seed or 0)
        (kind,) = rng.choices(range(len(KINDS)), self.policy.probabilities[len(said)].tolist())
        self.kinds.append(kind)
        if KINDS[kind] == EXPLOIT:
            return PolicyReply(_EXPLOITS.get(self.policy.flaw, heard[-1]))
        return PolicyReply(sentence(KINDS[kind], topic_of(heard), rng, said=said))
