"""`mica chat`: talk to a policy at the terminal, and see the judge's estimate of your state."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from mica_ray.chat.model import ChatModel
from mica_ray.cli.recipes import read_model
from mica_ray.config import RunConfig
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.launch import run
from mica_ray.launch.assembly import Parts
from mica_ray.launch.checked_run import CheckedRun
from mica_ray.rollout.policy_chat import PolicyChat
from mica_ray.seeding import derive_seed
from mica_ray.serving.support.need_estimator import NeedEstimator, distance_left, next_state
from mica_ray.training.loop import SilentProgress
from mica_ray.types import Judgement, Message, State

_PROMPT = "you: "


def run_conversation(model: str, *, assignments: Sequence[str]) -> None:
    """Talk until the input ends.

    Raises:
        ConfigError: one line for what cannot be done.
        ChatError: the policy cannot answer.
    """
    config = read_model(model, assignments)
    asyncio.run(_converse(run.check(config, inline=True)))


async def _converse(checked: CheckedRun) -> None:
    console = Console()
    async with run.set_up(checked, progress=SilentProgress()) as parts:
        console.print("Say what weighs on you; an empty line or Ctrl-D ends the talk.", style="dim")
        talk = _Talk(checked.config, parts, PolicyChat(parts.engine, parts.template))
        while line := (await asyncio.to_thread(_read_line)).strip():
            reply, judgement = await talk.answer(line)
            console.print(f"policy: {reply}", markup=False, highlight=False, soft_wrap=True)
            console.print(_describe(parts.world.domain, talk.state, judgement), style="dim", highlight=False)


class _Talk:
    """One conversation. Consumes what the user says, produces replies and the judged state."""

    def __init__(self, config: RunConfig, parts: Parts, policy: ChatModel) -> None:
        self._config, self._policy = config, policy
        domain = parts.world.domain
        self._estimate = NeedEstimator(parts.world.judge, domain, config.roles.deadline_seconds)
        self._messages: list[Message] = (
            [{"role": "system", "content": domain.policy_prompt}] if domain.policy_prompt else []
        )
        self._dialogue: list[SpokenTurn] = []
        self.state: State = self._estimate.start

    async def answer(self, said: str) -> tuple[str, Judgement]:
        """Take the user's message; give the policy's reply and how the judge takes it."""
        seed = derive_seed(self._config.seed, "chat", len(self._dialogue))
        self._messages.append({"role": "user", "content": said})
        sampling = replace(self._config.rollout.sampling, seed=seed)
        reply = (await self._policy.chat(self._messages, sampling)).text
        self._messages.append({"role": "assistant", "content": reply})
        self._dialogue.append({"user": said, "reply": reply})
        judgement = await self._estimate.score_reply(self._dialogue, state=self.state, seed=seed)
        self.state = next_state(self.state, judgement)
        return reply, judgement


def _describe(domain: Domain, state: State, judgement: Judgement) -> str:
    if judgement.delta is None:
        return f"        the judge gave no score: {judgement.error}"
    parts = [
        f"{axis.name} {value:+.0f} ({change:+.0f})"
        for axis, value, change in zip(domain.axes, state, judgement.delta, strict=True)
    ]
    return f"        {', '.join(parts)}; distance left {distance_left(state):.1f}"


def _read_line() -> str:
    if sys.stdin.isatty():
        print(_PROMPT, end="", flush=True)
    return sys.stdin.readline()
