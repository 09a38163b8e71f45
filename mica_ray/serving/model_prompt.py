"""Rendering of a request for one model: system prompt, chat template, context length.

Runs in the web application's process: in a replica, requests and engine share one Python interpreter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError
from mica_ray.serving.http.backend import BackendError, ChatRequest, ToolUse
from mica_ray.serving.request_template import RequestTemplate
from mica_ray.types import Message, ReplyOptions, Sampling


@dataclass(frozen=True, slots=True)
class RenderedRequest:
    """A request in the form a replica receives it."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    is_streamed: bool = False
    """Whether the text is returned in pieces."""
    begins_in_thought: bool = False
    """Whether the prompt opened a thought, so that the reply begins inside it."""
    options: ReplyOptions = field(default_factory=ReplyOptions)


@dataclass(frozen=True, slots=True)
class ModelPrompt:
    """Consumes requests, produces the prompts of one model."""

    template: ChatTemplate
    system_prompt: str
    """Added to a conversation without a system message; empty adds none."""
    context_length: int
    """Tokens of prompt and reply together."""
    model: str = ""
    """Its id, for error messages."""
    takes_schema: bool = True
    """Whether its engine can constrain a reply to a JSON schema."""
    adapter: str = ""
    """Id of its adapter in an engine that it shares; empty: it is the engine's model."""
    _extended: RequestTemplate = field(init=False)

    def __post_init__(self) -> None:
        """Prepare what the template does with tools and arguments."""
        object.__setattr__(self, "_extended", RequestTemplate(self.template))

    def messages(self, request: ChatRequest) -> list[Message]:
        """Return the messages, with the system prompt the model was trained with."""
        messages = list(request.messages)
        if self.system_prompt and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        return messages

    def render(self, request: ChatRequest) -> RenderedRequest:
        """Return the request as token ids.

        Raises:
            BackendError: the model or its chat template cannot serve this request, or the prompt is too long.
        """
        self._check(request)
        try:
            prompt_ids, is_open = self._prompt(request)
        except EngineError as error:
            raise BackendError(
                "The model's chat template rejects this order of messages. "
                "Alternate messages of user and assistant.",
                kind="refused",
                param="messages",
            ) from error
        if len(prompt_ids) >= self.context_length:
            raise BackendError(
                f"The conversation has {len(prompt_ids)} tokens, the model's context is "
                f"{self.context_length}. Leave out the oldest messages.",
                kind="too_long",
            )
        # A schema leaves no room for a thought: the reply is JSON from its first token.
        is_open = is_open and request.options.schema is None
        options = replace(request.options, adapter=self.adapter)
        return RenderedRequest(prompt_ids, request.sampling, request.is_streamed, is_open, options)

    def _prompt(self, request: ChatRequest) -> tuple[tuple[int, ...], bool]:
        """Return the prompt, and whether it ends inside an opened thought."""
        use = request.tool_use
        if use is not None:
            ids = self._extended.tool_prompt(self._tool_messages(use), use.tools, request.template_arguments)
            return ids, self.template.opens_thought(ids)
        template = self._extended.with_arguments(request.template_arguments)
        messages = self.messages(request)
        if messages[-1]["role"] != "assistant":
            ids = template.prompt(messages)
            return ids, template.opens_thought(ids)
        # The client began the reply; the model continues it.
        ids = template.prompt(messages[:-1])
        if template.opens_thought(ids):
            raise self._refusal(
                "cannot continue a message: its prompt opens a thought",
                "messages",
                "End with the user's message",
            )
        return (*ids, *self._extended.plain_tokens(messages[-1]["content"])), False

    def _tool_messages(self, use: ToolUse) -> list[Mapping[str, object]]:
        messages = list(use.messages)
        if self.system_prompt and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        return messages

    def _check(self, request: ChatRequest) -> None:
        """Check what the model, its engine or its template cannot do."""
        use, options = request.tool_use, request.options
        if options.schema is not None and not self.takes_schema:
            is_format = use is None or use.choice in ("auto", "none")
            raise self._refusal(
                "runs without vLLM's structured output, so no schema can be enforced",
                "response_format" if is_format else "tool_choice",
                "Leave out the schema" if is_format else "Leave out tool_choice",
            )
        if use is not None and not self._extended.takes_tools:
            raise self._refusal("has a chat template without tools", use.param)
        if use is not None and self._extended.has_marks([*use.messages, *use.tools]):
            reason = "accepts no control marks in a request with tools"
            raise self._refusal(reason, "messages", "Remove the marks")
        last = request.messages[-1]
        if use is None and last["role"] == "assistant" and self._extended.has_marks(last["content"]):
            raise self._refusal(
                "cannot continue a message with control marks", "messages", "Remove the marks"
            )
        size = self._extended.vocabulary_size
        if any(token >= size for token, _ in options.logit_bias):
            raise self._refusal(f"has {size} tokens, and a key is not one of them", "logit_bias")

    def _refusal(self, reason: str, param: str, remedy: str = "") -> BackendError:
        model = f"The model {self.model}" if self.model else "The model"
        advice = remedy or f"Leave out {param}"
        return BackendError(f"{model} {reason}. {advice}.", kind="refused", param=param)
