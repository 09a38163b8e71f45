"""A request rendered for one model: the system prompt of its training, its chat template, its context.

The web application's process renders: a replica has one interpreter for its requests and its engine.
"""

from __future__ import annotations

from dataclasses import dataclass

from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError
from mica_ray.serving.http.backend import BackendError, ChatRequest
from mica_ray.types import Message, Sampling


@dataclass(frozen=True, slots=True)
class RenderedRequest:
    """A request as a replica gets it."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    is_streamed: bool = False
    """Whether the text is wanted piece by piece."""
    begins_in_thought: bool = False
    """Whether the reply begins inside a thought that the prompt has opened."""


@dataclass(frozen=True, slots=True)
class ModelPrompt:
    """Consumes requests, produces what one model is asked."""

    template: ChatTemplate
    system_prompt: str
    """Opens a conversation without a system message; empty: nothing does."""
    context_length: int
    """Tokens of prompt and reply together."""

    def messages(self, request: ChatRequest) -> list[Message]:
        """Give the messages as the model is used to them."""
        messages = list(request.messages)
        if self.system_prompt and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        return messages

    def render(self, request: ChatRequest) -> RenderedRequest:
        """Give the request with its prompt.

        Raises:
            BackendError: the model takes no such order of messages, or not so many of them.
        """
        try:
            prompt_ids = self.template.prompt(self.messages(request))
        except EngineError as error:
            raise BackendError(
                "the model's chat template takes no such order of messages; let user and assistant alternate",
                kind="refused",
            ) from error
        if len(prompt_ids) >= self.context_length:
            raise BackendError(
                f"the conversation has {len(prompt_ids)} tokens; this model's context is "
                f"{self.context_length}",
                kind="too_long",
            )
        is_open = self.template.opens_thought(prompt_ids)
        return RenderedRequest(prompt_ids, request.sampling, request.is_streamed, is_open)
