"""`mica chat`: talk to a policy at the terminal, and see the judge's estimate of your state."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from mica_ray.cli.options import ModelArgument, SetOption, TrustOption, new_console

if TYPE_CHECKING:
    from mica_ray.config import RunConfig
    from mica_ray.dialogue.domain import Domain
    from mica_ray.dialogue.judger import Judge
    from mica_ray.dialogue.play import Policy
    from mica_ray.dialogue.role_messages import SpokenTurn
    from mica_ray.launch.checked_run import CheckedRun
    from mica_ray.types import Generation, Judgement, Message, State

_PROMPT = "you: "


def chat_command(model: ModelArgument, sets: SetOption = None, trust: TrustOption = False) -> None:
    """Talk to a policy at the terminal.

    After each reply you see how the judge estimates your state.
    """
    from mica_ray.cli.recipes import read_model
    from mica_ray.launch import run

    asyncio.run(_converse(run.check(read_model(model, sets or ()), inline=True, learns=False)))


async def _converse(checked: CheckedRun) -> None:
    """Talk until an empty line or the end of the input."""
    from mica_ray.launch import run
    from mica_ray.training.progress import SilentProgress

    console = new_console()
    async with run.set_up(checked, progress=SilentProgress()) as parts:
        console.print(
            "Write what is on your mind. An empty line or Ctrl-D ends the conversation.", style="dim"
        )
        conversation = Conversation(
            checked.config,
            parts.policy(checked.config),
            domain=parts.world.domain,
            judge=parts.world.judge,
        )
        while line := (await asyncio.to_thread(_read_line)).strip():
            reply, judgement = await conversation.answer(line)
            console.print(f"policy: {reply}", markup=False, highlight=False, soft_wrap=True)
            console.print(
                _describe(parts.world.domain, conversation.state, judgement), style="dim", highlight=False
            )


class Conversation:
    """One conversation: takes the user's messages, returns the policy's replies, tracks the user's state.

    The policy continues its own sampled tokens, as in training.
    """

    def __init__(self, config: RunConfig, policy: Policy, *, domain: Domain, judge: Judge) -> None:
        from mica_ray.serving.support.need_estimator import NeedEstimator

        self._config, self._policy = config, policy
        self._estimator = NeedEstimator(judge, domain, config.roles.deadline_seconds)
        self._messages: list[Message] = (
            [{"role": "system", "content": domain.policy_prompt}] if domain.policy_prompt else []
        )
        self._dialogue: list[SpokenTurn] = []
        self._previous: Generation | None = None
        self.state: State = self._estimator.start

    async def answer(self, message: str) -> tuple[str, Judgement]:
        """Return the policy's reply to the user's message, and the judge's score of the reply.

        Raises:
            ChatError: the policy said nothing, or the conversation leaves no room for a reply.
            EngineError: the engine failed.
        """
        from mica_ray.seeding import derive_seed
        from mica_ray.serving.support.need_estimator import next_state

        seed = derive_seed(self._config.seed, "chat", len(self._dialogue))
        self._messages.append({"role": "user", "content": message})
        reply = await self._reply(seed)
        self._messages.append({"role": "assistant", "content": reply})
        self._dialogue.append({"user": message, "reply": reply})
        judgement = await self._estimator.score_reply(self._dialogue, state=self.state, seed=seed)
        self.state = next_state(self.state, judgement)
        return reply, judgement

    async def _reply(self, seed: int) -> str:
        from mica_ray.chat.model import ChatError

        sampling = replace(self._config.rollout.sampling, seed=seed)
        reply = await self._policy.reply(self._messages, sampling, previous=self._previous)
        if reply is None:
            limit = self._config.rollout.context_length
            problem = f"The conversation leaves no room for a reply in a context of {limit} tokens."
            remedy = "Start a new one, or raise rollout.context_length."
            raise ChatError(f"{problem} {remedy}", kind="refused", endpoint="policy")
        if not reply.text.strip():
            raise ChatError(reply.silence, kind="content", endpoint="policy")
        self._previous = reply.generation
        return reply.text


def _describe(domain: Domain, state: State, judgement: Judgement) -> str:
    from mica_ray.serving.support.need_estimator import distance_left

    if judgement.delta is None:
        return f"        no score from the judge: {judgement.error}"
    parts = [
        f"{axis.name} {value:+.0f} ({change:+.0f})"
        for axis, value, change in zip(domain.axes, state, judgement.delta, strict=True)
    ]
    return f"        {', '.join(parts)}; distance left {distance_left(state):.1f}"


def _read_line() -> str:
    if sys.stdin.isatty():
        print(_PROMPT, end="", flush=True)
    return sys.stdin.readline()
