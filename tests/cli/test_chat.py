"""One conversation at the terminal: what the policy gets, and what ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from mica_ray.chat.model import ChatError
from mica_ray.cli.chat import Conversation
from mica_ray.config import RunConfig
from mica_ray.dialogue.judger import Judger
from mica_ray.dialogue.play import Policy, PolicyReply
from mica_ray.types import Generation, Message, Sampling
from tests.dialogue.tiny_domain import DOMAIN, QueuedChat, judgement_json


@dataclass
class QueuedPolicy:
    """A policy that returns the queued replies and records what it gets."""

    replies: list[PolicyReply | None]
    asked: list[tuple[tuple[str, ...], Generation | None]] = field(default_factory=list)

    async def reply(
        self, messages: Sequence[Message], sampling: Sampling, *, previous: Generation | None
    ) -> PolicyReply | None:
        self.asked.append((tuple(message["content"] for message in messages), previous))
        return self.replies[len(self.asked) - 1]

    def for_dialogue(self, number: int) -> Policy:
        return self


def conversation(policy: QueuedPolicy) -> Conversation:
    judge = Judger(QueuedChat(judgement_json((1, 0, 0))), DOMAIN, Sampling(max_tokens=512), 30.0)
    return Conversation(RunConfig(), policy, domain=DOMAIN, judge=judge)


async def test_policy_continues_the_tokens_that_it_sampled() -> None:
    first, second = (Generation((1,), (token,), (0.0,), "x", "stop", 0) for token in (2, 3))
    policy = QueuedPolicy([PolicyReply("One.", first), PolicyReply("Two.", second), PolicyReply("Three.")])
    talk = conversation(policy)
    assert [(await talk.answer(text))[0] for text in ("a", "b", "c")] == ["One.", "Two.", "Three."]
    assert [previous for _, previous in policy.asked] == [None, first, second]
    assert policy.asked[-1][0] == ("Be kind.", "a", "One.", "b", "Two.", "c")
    # P_0 is (-1, -2, -2) points, and each reply gives back one point of C.
    assert talk.state == (2.0, -2.0, -2.0)


async def test_conversation_that_fills_the_context_ends_with_the_setting_that_helps() -> None:
    with pytest.raises(ChatError, match=r"no room .*1024 tokens\. .*raise rollout\.context_length"):
        await conversation(QueuedPolicy([None])).answer("a")


async def test_reply_that_says_nothing_ends_the_conversation_with_its_reason() -> None:
    with pytest.raises(ChatError, match="The thought is unfinished"):
        await conversation(QueuedPolicy([PolicyReply("", silence="The thought is unfinished.")])).answer("a")
