"""The Actor: the simulated user, who speaks after each reply. What it reveals is the Director's choice.

What counts as a message is in `actor_message.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mica_ray.chat.model import ChatError, ChatModel
from mica_ray.dialogue.actor_message import MessageProblem, clean_message, message_problem
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.role_messages import SpokenTurn, actor_messages
from mica_ray.seeding import derive_seed
from mica_ray.types import Message, Sampling, Scenario, State, Status

_OPEN_THE_TALK = {
    "en": "Nothing has been said yet: dialogue is empty, and you speak first. In one short message, say what "
    "just happened or how you feel about the topic, as one would write to somebody met online. Do not greet, "
    "do not explain who you are, and keep the rest of your story for later.",
    "zh": "对话还没有开始，dialogue 是空的，由你先开口。像给刚认识的网友发消息那样，"
    "用一句简短的话说出刚刚发生的事或者此刻的感受，围绕你的话题。不打招呼，不介绍自己，其余的经历留到后面再说。",
}
"""What stands in the place of the director's guidance when the Actor speaks first, by language."""
_WRITE_ANEW = {
    "en": "Your last draft cannot be sent: {problem}. Write another message that does not have this fault.",
    "zh": "你刚才写的那条消息不能发出去：{problem}。请重新写一条没有这个问题的消息。",
}
"""Added to the instructions after a draft that cannot be sent, by language."""
_HOTTER = 0.2
"""Added to the temperature with every draft: what was said once is, at the same one, likely said again."""
_HOTTEST = 2.0
"""No endpoint takes a higher temperature."""
_FULL_DRAFTS = 2
"""Drafts that see the whole dialogue. Small models copy the person's words: the rest see the reply alone."""


@dataclass(frozen=True, slots=True)
class ActorMessage:
    """What the user says, and how it came about."""

    text: str
    status: Status
    """OK, RETRIED (the endpoint needed several attempts) or REPAIRED (of several drafts)."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Consumes a dialogue that ends with a reply, produces the user's next message; waits for its model."""

    model: ChatModel
    domain: Domain
    sampling: Sampling
    """The seed is replaced in every call."""
    deadline_seconds: float = 120.0
    """For one message with all its drafts, waiting for the endpoint's free slot included."""
    most_drafts: int = 4
    """Until one can be sent. Small models write many that cannot; a good one seldom needs a second."""

    def __post_init__(self) -> None:
        if self.most_drafts < 1:
            raise ValueError(f"most_drafts must be at least 1; got {self.most_drafts}")

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
            revealed=(),
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
        revealed: Sequence[str],
        guidance: str | None,
        fragment: str | None,
        seed: int,
    ) -> ActorMessage:
        """Give the user's next message.

        Args:
            scenario: who speaks.
            dialogue: oldest first, ends with the policy's reply; empty when the user speaks first.
            state: P_t, points.
            revealed: story fragments revealed in earlier messages.
            guidance: what the Director asks for, None when nothing.
            fragment: the story fragment to tell now, None when there is none.
            seed: makes the message reproducible.

        Raises:
            ChatError: the model failed, was too late, or wrote in all its drafts what a person would not say
                next: nothing, JSON, far too much, what was said before, or its instructions.
        """
        endpoint = f"the actor of scenario {scenario.id}"
        problem = None
        try:
            async with asyncio.timeout(self.deadline_seconds):
                for draft in range(self.most_drafts):
                    messages = actor_messages(
                        self.domain,
                        scenario,
                        state=state,
                        dialogue=dialogue if draft < _FULL_DRAFTS else _reply_alone(dialogue),
                        revealed=revealed,
                        guidance=guidance,
                        fragment=fragment,
                    )
                    asked = _with_complaint(messages, problem, scenario.language)
                    reply = await self.model.chat(asked, _sampling_of(draft, self.sampling, seed))
                    # A model with a fixed set of lines repeats itself, and cannot rephrase.
                    if reply.is_verbatim:
                        return ActorMessage(reply.text.strip(), _status(draft, reply.attempts))
                    message = clean_message(reply.text)
                    told_to = [guidance or "", *_complaints(problem, scenario.language)]
                    problem = message_problem(message, dialogue, fragment=fragment, instructions=told_to)
                    if problem is None:
                        return ActorMessage(message, _status(draft, reply.attempts))
        except TimeoutError as error:
            late = f"{endpoint} gave no message within {self.deadline_seconds:g} s"
            raise ChatError(late, kind="timeout", endpoint=endpoint) from error
        unusable = f"{endpoint} gave no usable message in {self.most_drafts} drafts: {problem}"
        raise ChatError(unusable, kind="content", endpoint=endpoint)


def _sampling_of(draft: int, sampling: Sampling, seed: int) -> Sampling:
    if draft == 0:
        return replace(sampling, seed=seed)
    temperature = max(sampling.temperature, min(_HOTTEST, sampling.temperature + _HOTTER * draft))
    return replace(sampling, seed=derive_seed(seed, draft), temperature=temperature)


def _reply_alone(dialogue: Sequence[SpokenTurn]) -> Sequence[SpokenTurn]:
    return [{"user": "", "reply": turn["reply"]} for turn in dialogue[-1:]]


def _status(draft: int, attempts: int) -> Status:
    if draft > 0:
        return Status.REPAIRED
    return Status.RETRIED if attempts > 1 else Status.OK


def _with_complaint(
    messages: Sequence[Message], problem: MessageProblem | None, language: str
) -> Sequence[Message]:
    """Say in the instructions what is wrong; a draft that is shown to a small model is written again."""
    instructions, case = messages
    text = "\n\n".join([str(instructions["content"]), *_complaints(problem, language)])
    return ({"role": "system", "content": text}, case)


def _complaints(problem: MessageProblem | None, language: str) -> list[str]:
    if problem is None:
        return []
    in_chinese = language == "zh"
    text = _WRITE_ANEW["zh" if in_chinese else "en"]
    return [text.format(problem=problem.chinese if in_chinese else problem.english)]
