"""The policy of a dialogue over an engine. The text-only policy is in dialogue/play.py."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mica_ray.chat.ledger import POLICY, Ledger, Tally
from mica_ray.chat.thinking import UnclosedThoughtError
from mica_ray.dialogue.play import Policy, PolicyReply
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError, PolicyEngine, RoutingEngine, checked_logprobs
from mica_ray.types import Generation, Message, Sampling


@dataclass(frozen=True, slots=True)
class EnginePolicy:
    """`Policy` over an engine. Prompts repeat the sampled tokens, never their decoded text.

    The reply is what was said; its thoughts are in the sampled tokens only. A template that rewrites history
    renders it without thoughts, as the service does, unless its history is kept as sampled.
    """

    engine: PolicyEngine
    template: ChatTemplate
    context_length: int
    """Tokens of a whole dialogue, prompt and replies."""
    ledger: Ledger | None = None
    """Counts calls, tokens and wall seconds, waiting for the engine included; None counts nothing."""

    async def reply(
        self, messages: Sequence[Message], sampling: Sampling, *, previous: Generation | None
    ) -> PolicyReply | None:
        """Sample a reply; return None when the context has no room for `sampling.max_tokens` more.

        Raises:
            EngineError: the engine failed, or not even the first prompt leaves room for a reply.
        """
        prompt_ids = (
            self.template.prompt(messages)
            if previous is None
            else self.template.next_prompt(messages, previous)
        )
        if len(prompt_ids) + sampling.max_tokens > self.context_length:
            if not any(message["role"] == "assistant" for message in messages):
                raise EngineError(
                    f"The first prompt has {len(prompt_ids)} tokens and leaves no room for a reply of "
                    f"{sampling.max_tokens} in a context of {self.context_length}. Raise "
                    "rollout.context_length, or shorten the policy prompt."
                )
            return None
        generation = await self._generate(prompt_ids, sampling)
        try:
            said = self.template.spoken(generation).text
        except UnclosedThoughtError as error:
            return PolicyReply("", generation, generation.finish_reason, silence=str(error))
        return PolicyReply(said, generation, generation.finish_reason)

    def for_dialogue(self, number: int) -> Policy:
        """Return the policy on the engine replica that caches this dialogue's prefix."""
        if isinstance(self.engine, RoutingEngine):
            return replace(self, engine=self.engine.route(number))
        return self

    async def _generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        begin = time.perf_counter()
        # A deadline cancels this call, so it counts as failed until the reply is here.
        spent = Tally(calls=1, failed_calls=1)
        try:
            generation = checked_logprobs(await self.engine.generate(prompt_ids, sampling))
            spent = Tally(calls=1, prompt_tokens=len(prompt_ids), completion_tokens=len(generation.token_ids))
        finally:
            if self.ledger is not None:
                self.ledger.add(POLICY, replace(spent, seconds=time.perf_counter() - begin))
        return generation
