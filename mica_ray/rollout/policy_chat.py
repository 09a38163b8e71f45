"""A policy engine as a chat model, for an evaluated policy or a role model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.chat.thinking import UnclosedThoughtError
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError
from mica_ray.types import Generation, Message, Sampling


class SamplingEngine(Protocol):
    """The part of an engine that a chat model needs."""

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        """Sample one reply.

        Raises:
            EngineError: the engine died, or the prompt does not fit its context.
        """
        ...


@runtime_checkable
class GuidedEngine(Protocol):
    """An engine that can constrain a reply to a JSON schema."""

    async def generate_json(
        self, prompt_ids: Sequence[int], sampling: Sampling, schema: JsonSchema
    ) -> Generation:
        """Sample one reply that satisfies the schema, unless it is truncated.

        Raises:
            EngineError: as `generate` does, or the schema is not supported.
        """
        ...


class PolicyChat:
    """`ChatModel` over an engine.

    Consumes messages, produces text; waits for the engine. A `GuidedEngine` enforces a schema; with other
    engines the caller must validate the reply.

    Args:
        engine: samples the replies.
        template: of the engine's model.
        name: reported as the model's name.
    """

    def __init__(self, engine: SamplingEngine, template: ChatTemplate, *, name: str = "policy") -> None:
        self._engine = engine
        self._template = template
        self._name = name

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Sample the next message of the conversation.

        Raises:
            ChatError: the engine failed, the conversation does not fit its context, or the reply ends inside
                its thinking.
        """
        begin = time.perf_counter()
        prompt_ids = self._template.prompt(messages)
        try:
            if schema is not None and isinstance(self._engine, GuidedEngine):
                generation = await self._engine.generate_json(prompt_ids, sampling, schema)
            else:
                generation = await self._engine.generate(prompt_ids, sampling)
        except EngineError as error:
            raise ChatError(str(error), kind="infrastructure", endpoint=self._name) from error
        try:
            said = self._template.spoken(generation)
        except UnclosedThoughtError as error:
            raise ChatError(
                f"{self._name}: {error}",
                kind="content",
                endpoint=self._name,
                prompt_tokens=len(prompt_ids),
                completion_tokens=len(generation.token_ids),
            ) from error
        return ChatReply(
            text=said.text,
            model=self._name,
            thinking=said.thinking,
            prompt_tokens=len(prompt_ids),
            completion_tokens=len(generation.token_ids),
            seconds=time.perf_counter() - begin,
            finish_reason=generation.finish_reason,
        )
