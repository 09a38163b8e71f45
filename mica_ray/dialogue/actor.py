"""The Actor: the simulated user, who speaks after each reply. What it reveals is the Director's choice.

What counts as a message is in `actor_message.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mica_ray.chat.model import ChatError, ChatModel
from mica_ray.chat.scripted import ScriptedRoles
from mica_ray.dialogue.actor_message import clean_message, message_problem
from mica_ray.dialogue.case_file import SpokenTurn, actor_messages
from mica_ray.dialogue.domain import Domain
from mica_ray.types import Message, Sampling, Scenario, State, Status

_OPEN_THE_TALK = {
    "en": "Nothing has been said yet: dialogue is empty, and you speak first. In one short message, say what "
    "just happened or how you feel about the topic, as one would write to somebody met online. Do not greet, "
    "do not explain who you are, and keep the rest of your story for later.",
    "zh": "对话还没有开始，dialogue 是空的，由你先开口。像给刚认识的网友发消息那样，"
    "用一句简短的话说出刚刚发生的事或者此刻的感受，围绕你的话题。不打招呼，不介绍自己，其余的经历留到后面再说。",
}
"""What stands in the place of the director's guidance when the Actor speaks first, by language."""


@dataclass(frozen=True, slots=True)
class ActorMessage:
    """What the user says, and how it came about."""

    text: str
    status: Status
    """OK, RETRIED (the endpoint needed several attempts) or REPAIRED."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Consumes a dialogue that ends with a reply, produces the user's next message; waits for its model."""

    model: ChatModel
    domain: Domain
    sampling: Sampling
    """The seed is replaced in every call."""
    deadline_seconds: float = 120.0
    """For one message with its repair, waiting for the endpoint's free slot included."""

    async def open(self, scenario: Scenario, *, seed: int) -> ActorMessage:
        """Give the user's first message, for a scenario that brings none.

        Args:
            scenario: who speaks.
            seed: makes the message reproducible.

        Raises:
            ChatError: the model failed, was too late, or said nothing.
        """
        return await self.speak(
            scenario,
            (),
            state=scenario.initial_state,
            told=(),
            guidance=_OPEN_THE_TALK.get(scenario.language, _OPEN_THE_TALK["en"]),
            fragment=None,
            seed=seed,
        )

    async def speak(
        self,
        scenario: Scenario,
        dialogue: Sequence[SpokenTurn],
        *,
        state: State,
        told: Sequence[str],
        guidance: str | None,
        fragment: str | None,
        seed: int,
    ) -> ActorMessage:
        """Give the user's next message.

        Args:
            scenario: who speaks.
            dialogue: oldest first, ends with the policy's reply; empty when the user speaks first.
            state: P_t, points.
            told: story fragments revealed in earlier messages.
            guidance: what the Director asks for, None when nothing.
            fragment: the story fragment to tell now, None when there is none.
            seed: makes the message reproducible.

        Raises:
            ChatError: the model failed, was too late, or twice wrote what a person would not say next:
                nothing, JSON, far too much, or what was said before.
        """
        messages = actor_messages(
            self.domain,
            scenario,
            state=state,
            dialogue=dialogue,
            told=told,
            guidance=guidance,
            fragment=fragment,
        )
        endpoint = f"the actor of scenario {scenario.id}"
        sampling = replace(self.sampling, seed=seed)
        try:
            async with asyncio.timeout(self.deadline_seconds):
                first = await self.model.chat(messages, sampling)
                status = Status.RETRIED if first.attempts > 1 else Status.OK
                # The scripted person has few lines and says them again: it cannot be asked to rephrase.
                if first.model == ScriptedRoles.name:
                    return ActorMessage(first.text.strip(), status)
                message = clean_message(first.text)
                problem = message_problem(message, dialogue, fragment=fragment)
                if problem is None:
                    return ActorMessage(message, status)
                second = await self.model.chat([*messages, *_complaint(first.text, problem)], sampling)
        except TimeoutError as error:
            late = f"{endpoint} gave no message within {self.deadline_seconds:g} s"
            raise ChatError(late, kind="timeout", endpoint=endpoint) from error
        message = clean_message(second.text)
        if problem := message_problem(message, dialogue, fragment=fragment):
            unusable = f"{endpoint} gave no usable message: {problem} (after one repair attempt)"
            raise ChatError(unusable, kind="content", endpoint=endpoint)
        return ActorMessage(message, Status.REPAIRED)


def _complaint(text: str, problem: str) -> tuple[Message, Message]:
    return (
        {"role": "assistant", "content": text},
        {
            "role": "user",
            "content": f"That message cannot be sent: {problem}. Write the person's next message again, "
            "in the same language, in other words, as plain text.",
        },
    )
