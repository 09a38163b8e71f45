"""Rendering of a request for one model: system prompt, chat template, context length.

Runs in the web application's process: in a replica, requests and engine share one Python interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass

from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError
from mica_ray.serving.http.backend import BackendError, ChatRequest
from mica_ray.types import Message, Sampling


@dataclass(frozen=True, slots=True)
class RenderedRequest:
    """A request in the form a replica receives it."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    is_streamed: bool = False
    """Whether the text is returned in pieces."""
    begins_in_thought: bool = False
    """Whether the prompt opened a thought, so that the reply begins inside it."""


@dataclass(frozen=True, slots=True)
class ModelPrompt:
    """Consumes requests, produces the prompts of one model."""

    template: ChatTemplate
    system_prompt: str
    """Added to a conversation without a system message; empty adds none."""
    context_length: int
    """Tokens of prompt and reply together."""

    def messages(self, request: ChatRequest) -> list[Message]:
        """Return the messages, with the system prompt the model was trained with."""
        messages = list(request.messages)
        if self.system_prompt and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        return messages

    def render(self, request: ChatRequest) -> RenderedRequest:
        """Return the request as token ids.

        Raises:
            BackendError: the chat template rejects the order of messages, or the prompt is too long.
        """
        try:
            prompt_ids = self.template.prompt(self.messages(request))
        except EngineError as error:
            raise BackendError(
                "The model's chat template rejects this order of messages. "
                "Alternate messages of user and assistant.",
                kind="refused",
            ) from error
        if len(prompt_ids) >= self.context_length:
            raise BackendError(
                f"The conversation has {len(prompt_ids)} tokens, the model's context is "
                f"{self.context_length}. Leave out the oldest messages.",
                kind="too_long",
            )
        is_open = self.template.opens_thought(prompt_ids)
        return RenderedRequest(prompt_ids, request.sampling, request.is_streamed, is_open)
