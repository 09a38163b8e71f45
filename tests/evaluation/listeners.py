"""Text policies for evaluations: classes with the chat protocol, named in a config by module:CLASS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.types import Message, Sampling


@dataclass(frozen=True, slots=True)
class WarmListener:
    """Always returns the same warm reply; fails if a user message contains `deaf_to`."""

    deaf_to: str = "\0"

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        if any(self.deaf_to in message["content"] for message in messages if message["role"] == "user"):
            raise ChatError("the listener is gone", kind="infrastructure", endpoint="listener")
        return ChatReply(text="That sounds so heavy. I hear how much this hurts you.", model="listener")
