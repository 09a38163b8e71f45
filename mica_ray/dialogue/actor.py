"""The Actor: a model that plays the user and writes the next message after each reply.

The Director chooses what it reveals (dialogue/director.py); dialogue/actor_message.py checks the message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mica_ray.chat.model import ChatError, ChatModel, ChatReply
from mica_ray.checks import at_least
from mica_ray.dialogue.actor_message import CUT_OFF, MessageProblem, clean_message, message_problem
from mica_ray.dialogue.answer import cut_off_problem
from mica_ray.dialogue.domain import Domain
from mica_ray.dialogue.role_messages import SpokenTurn, actor_messages
from mica_ray.seeding import derive_seed
from mica_ray.types import FinishReason, Message, Sampling, Scenario, State, Status

_OPEN_THE_TALK = {
    "en": "Nothing has been said yet: dialogue is empty, and you speak first. In one short message, say what "
    "just happened or how you feel about the topic, as one would write to somebody met online. Do not greet, "
    "do not explain who you are, and keep the rest of your story for later.",
    "zh": "对话还没有开始，dialogue 是空的，由你先开口。像给刚认识的网友发消息那样，"
    "用一句简短的话说出刚刚发生的事或者此刻的感受，围绕你的话题。不打招呼，不介绍自己，其余的经历留到后面再说。",
}
"""Guidance by language when the Actor speaks first, in place of the Director's."""
_REWRITE_REQUEST = {
    "en": "Your last draft cannot be sent: {problem}. Write another message that does not have this fault.",
    "zh": "你刚才写的那条消息不能发出去：{problem}。请重新写一条没有这个问题的消息。",
}
"""Added to the instructions after a rejected draft, by language."""
_TEMPERATURE_STEP = 0.2
"""Increase per draft: at the same temperature a model is likely to repeat its rejected draft."""
_HIGHEST_TEMPERATURE = 2.0
"""Highest temperature that endpoints accept."""
_FULL_DRAFTS = 2
"""Drafts that see the whole dialogue. Later ones see the last reply only: small models copy the dialogue."""


@dataclass(frozen=True, slots=True)
class ActorMessage:
    """The user's message and the status of the calls that produced it."""

    text: str
    status: Status
    """OK, RETRIED (several attempts at the endpoint) or REPAIRED (several drafts)."""
    finish_reason: FinishReason | None = None
    """Why the model stopped writing the message; None if unknown."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Writes the user's next message after a reply. Waits for its model."""

    model: ChatModel
    domain: Domain
    sampling: Sampling
    """The seed is replaced in every call."""
    deadline_seconds: float = 120.0
    """Deadline of one message with all its drafts, including the wait for a slot of the endpoint."""
    most_drafts: int = 4
    """Maximum number of drafts. Small models need several; a good one seldom needs a second."""

    def __post_init__(self) -> None:
        at_least(1, most_drafts=self.most_drafts)

    async def open(self, scenario: Scenario, *, seed: int) -> ActorMessage:
        """Return the user's first message, for a scenario without an opening.

        Args:
            scenario: the user to play.
            seed: makes the message reproducible.

        Raises:
            ChatError: the model failed, timed out, or wrote no usable message.
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
        """Return the user's next message.

        Args:
            scenario: the user to play.
            dialogue: oldest turn first, ends with the policy's reply; empty if the user speaks first.
            state: P_t, points.
            revealed: story fragments of earlier messages.
            guidance: the Director's guidance; None for none.
            fragment: the story fragment to reveal now; None for none.
            seed: makes the message reproducible.

        Raises:
            ChatError: the model failed or timed out, or every draft was unusable: empty, cut off, JSON, too
                long, a repetition of the dialogue or of the instructions, or not a person's words.
        """
        endpoint = f"actor of scenario {scenario.id}"
        problem = None
        try:
            async with asyncio.timeout(self.deadline_seconds):
                for draft in range(self.most_drafts):
                    messages = actor_messages(
                        self.domain,
                        scenario,
                        state=state,
                        dialogue=dialogue if draft < _FULL_DRAFTS else _last_reply_only(dialogue),
                        revealed=revealed,
                        guidance=guidance,
                        fragment=fragment,
                    )
                    asked = _with_complaint(messages, problem, scenario.language)
                    reply = await self._draft(asked, _sampling_of(draft, self.sampling, seed))
                    # A model with a fixed set of lines repeats itself, and cannot rephrase.
                    if reply is not None and reply.is_verbatim:
                        return _message(reply.text.strip(), draft, reply)
                    message = "" if reply is None else clean_message(reply.text)
                    instructions = [guidance or "", *_complaints(problem, scenario.language)]
                    problem = message_problem(
                        message,
                        dialogue,
                        fragment=fragment,
                        instructions=instructions,
                        persona=scenario.persona,
                    )
                    if message and reply is not None and cut_off_problem(reply) is not None:
                        problem = CUT_OFF
                    if reply is not None and problem is None:
                        return _message(message, draft, reply)
        except TimeoutError as error:
            late = (
                f"The {endpoint} wrote no message within {self.deadline_seconds:g} s. "
                "Check its model, or raise roles.deadline_seconds."
            )
            raise ChatError(late, kind="timeout", endpoint=endpoint) from error
        unusable = (
            f"The {endpoint} wrote no usable message in {self.most_drafts} drafts: {problem}. "
            "Use a larger model."
        )
        raise ChatError(unusable, kind="content", endpoint=endpoint)

    async def _draft(self, asked: Sequence[Message], sampling: Sampling) -> ChatReply | None:
        """Return one draft; None for an unusable answer, such as an unfinished thought."""
        try:
            return await self.model.chat(asked, sampling)
        except ChatError as error:
            if error.kind != "content":
                raise
            return None


def _message(text: str, draft: int, reply: ChatReply) -> ActorMessage:
    return ActorMessage(text, _status(draft, reply.attempts), reply.finish_reason)


def _sampling_of(draft: int, sampling: Sampling, seed: int) -> Sampling:
    if draft == 0:
        return replace(sampling, seed=seed)
    raised = min(_HIGHEST_TEMPERATURE, sampling.temperature + _TEMPERATURE_STEP * draft)
    temperature = max(sampling.temperature, raised)
    return replace(sampling, seed=derive_seed(seed, draft), temperature=temperature)


def _last_reply_only(dialogue: Sequence[SpokenTurn]) -> Sequence[SpokenTurn]:
    return [{"user": "", "reply": turn["reply"]} for turn in dialogue[-1:]]


def _status(draft: int, attempts: int) -> Status:
    if draft > 0:
        return Status.REPAIRED
    return Status.RETRIED if attempts > 1 else Status.OK


def _with_complaint(
    messages: Sequence[Message], problem: MessageProblem | None, language: str
) -> Sequence[Message]:
    """Add the fault to the instructions, without the draft: a small model would copy it."""
    instructions, case = messages
    text = "\n\n".join([str(instructions["content"]), *_complaints(problem, language)])
    return ({"role": "system", "content": text}, case)


def _complaints(problem: MessageProblem | None, language: str) -> list[str]:
    if problem is None:
        return []
    in_chinese = language == "zh"
    text = _REWRITE_REQUEST["zh" if in_chinese else "en"]
    return [text.format(problem=problem.chinese if in_chinese else problem.english)]
