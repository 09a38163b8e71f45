"""The one way to play a dialogue: a policy replies to an environment until the end.

The environment is environment.py; a policy made of tokens is rollout/engine_policy.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mica_ray.chat.ledger import DialogueKey, dialogue_costs
from mica_ray.chat.model import ChatError, ChatModel
from mica_ray.dialogue.environment import Environment
from mica_ray.dialogue.prefix import Prefix
from mica_ray.dialogue.trajectory_builder import TrajectoryBuilder
from mica_ray.seeding import derive_seed
from mica_ray.types import FinishReason, Generation, Message, Sampling, Scenario, Stop, Trajectory


@dataclass(frozen=True, slots=True)
class DialogueStart:
    """Where a dialogue starts, and the seed of everything that follows."""

    scenario: Scenario
    seed: int = 0
    """Reply t samples under derive_seed(seed, "policy", t), with t counted from this start."""
    step: int = 0
    group: int = 0
    """Equal for the dialogues of one scenario in one step."""
    sample: int = 0
    """0..N-1 within the group."""
    begun: Prefix | None = None
    """Turns that were played before; None starts at the opening."""

    @property
    def key(self) -> DialogueKey:
        """The key under which the ledger counts the dialogue's calls."""
        return DialogueKey(self.step, self.scenario.id, self.sample)


@dataclass(frozen=True, slots=True)
class PolicyReply:
    """One reply of a policy."""

    text: str
    """What the policy said, without its thoughts; empty if it said nothing."""
    generation: Generation | None = None
    """The sampled tokens, thoughts included; None for a policy that is known by its text only."""
    finish_reason: FinishReason | None = None
    """Why the policy stopped writing; None if unknown."""
    silence: str = "The reply is empty."
    """Why the policy said nothing, if it did."""


class Policy(Protocol):
    """Who replies to the user: the model in training or under test. Waits for that model."""

    async def reply(
        self, messages: Sequence[Message], sampling: Sampling, *, previous: Generation | None
    ) -> PolicyReply | None:
        """Reply to the last message; return None when the context has no room for another reply.

        Args:
            messages: the dialogue so far, system prompt included.
            sampling: how to sample, with the seed of this reply.
            previous: the tokens of the reply before, None for the first reply since the start.

        Raises:
            ChatError: the model behind the policy failed.
        """
        ...

    def for_dialogue(self, number: int) -> Policy:
        """Return the policy that plays one dialogue: equal numbers get the same model replica."""
        ...


@dataclass(frozen=True, slots=True)
class TextPolicy:
    """`Policy` over a chat model, such as an endpoint, which limits its own context."""

    model: ChatModel

    async def reply(
        self, messages: Sequence[Message], sampling: Sampling, *, previous: Generation | None
    ) -> PolicyReply | None:
        """Return the model's answer; an unusable one, such as an unfinished thought, says nothing.

        Raises:
            ChatError: the model failed.
        """
        try:
            reply = await self.model.chat(tuple(messages), sampling)
        except ChatError as error:
            if error.kind != "content":
                raise
            return PolicyReply("", silence=str(error))
        return PolicyReply(reply.text, finish_reason=reply.finish_reason)

    def for_dialogue(self, number: int) -> Policy:
        """Return this policy: an endpoint has no replicas to choose from."""
        return self


async def play_dialogue(
    start: DialogueStart,
    environment: Environment,
    policy: Policy,
    sampling: Sampling,
    *,
    policy_prompt: str,
    reply_deadline_seconds: float = 120.0,
    deadline_seconds: float | None = None,
) -> Trajectory:
    """Play one dialogue from its start; return a FAILED trajectory instead of raising.

    Args:
        start: whose dialogue, where it starts, and its seed.
        environment: unused so far, made for this start.
        policy: replies to the user.
        sampling: how the policy samples; its seed is replaced by one derived for every reply.
        policy_prompt: system prompt of the policy; empty for none.
        reply_deadline_seconds: longest wait for one reply.
        deadline_seconds: longest duration of the dialogue; None for no limit.

    Returns:
        The turns after the start. The trajectory is LIMIT when the context is full or the policy said
        nothing, and FAILED with a reason and its finished turns when the policy, the user or the environment
        failed.
    """
    builder = TrajectoryBuilder(
        start.scenario,
        policy_prompt=policy_prompt,
        group=start.group,
        sample=start.sample,
        begun=start.begun,
    )
    timer = asyncio.timeout(deadline_seconds)
    with dialogue_costs(start.key):
        try:
            async with timer:
                await _converse(builder, environment, policy, sampling, start.seed, reply_deadline_seconds)
        except ChatError as failure:
            builder.end(Stop.FAILED, str(failure))
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
            if isinstance(failure, TimeoutError) and timer.expired():
                error = (
                    f"The dialogue took more than {deadline_seconds:g} s. Speed up the role models, or raise "
                    "rollout.dialogue_deadline_seconds."
                )
            builder.end(Stop.FAILED, error)
    return builder.trajectory()


async def _converse(
    builder: TrajectoryBuilder,
    environment: Environment,
    policy: Policy,
    sampling: Sampling,
    seed: int,
    reply_deadline_seconds: float,
) -> None:
    builder.open(await environment.open())
    previous: Generation | None = None
    while builder.stop is None:
        of_turn = replace(sampling, seed=derive_seed(seed, "policy", builder.num_turns))
        timer = asyncio.timeout(reply_deadline_seconds)
        try:
            async with timer:
                reply = await policy.reply(builder.messages, of_turn, previous=previous)
        except TimeoutError:
            if not timer.expired():
                raise
            builder.end(
                Stop.FAILED,
                f"The policy did not reply within {reply_deadline_seconds:g} s. Check its engine or "
                "endpoint, or raise rollout.generate_deadline_seconds.",
            )
            return
        if reply is None:
            builder.end(Stop.LIMIT)
            return
        previous = reply.generation
        if not reply.text.strip():
            # There is nothing to score or to answer: nobody is asked.
            builder.add_silence(reply.silence, generation=reply.generation, finish_reason=reply.finish_reason)
            return
        builder.add(
            reply.text,
            await environment.respond(reply.text),
            generation=reply.generation,
            finish_reason=reply.finish_reason,
        )
