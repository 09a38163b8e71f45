"""One copy of a model with its tokenizer. A plain class; serving/ray_app.py deploys it."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError, GeneratedChunk, RequestRefused, StreamingEngine
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.rollout.policy_chat import PolicyChat, SamplingEngine
from mica_ray.rollout.prompting.appending import History
from mica_ray.rollout.vllm_engine import VllmEngine, vllm_blueprint
from mica_ray.serving.http.backend import BackendError, TextDelta, TextLogprob, Usage
from mica_ray.serving.model_prompt import ModelPrompt, RenderedRequest
from mica_ray.serving.token_texts import TokenTexts
from mica_ray.types import Message, Sampling

if TYPE_CHECKING:
    from mica_ray.rollout.local_engine import LocalEngine

_PIECE_SECONDS = 0.1
"""Target duration of one streamed piece: each costs two messages, and nobody reads faster."""
_PIECES_PER_SECOND = 128
"""Limit over all streams of a replica: more messages would slow the engine down."""
_SWITCH_SECONDS = 0.0005
"""Longest time that the event loop or the engine's thread holds the interpreter against the other one."""
_FAILURES = 3
"""Consecutive failures after which an engine counts as dead: vLLM does not recover from a failure."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model to serve, and how to run it."""

    id: str
    """The name clients send."""
    path: str
    """Its folder, readable on the nodes of its replicas and of the web application, which renders prompts."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    sampler: Literal["vllm", "transformers"] = "vllm"
    """transformers: without vLLM, one reply at a time; starts in seconds."""
    template_arguments: Mapping[str, bool | int | str] = field(default_factory=dict[str, bool | int | str])
    """Arguments of its chat template, such as enable_thinking."""
    history: History = "template"
    """How its prompts contain earlier replies: for a trained policy, as in its training."""
    system_prompt: str = ""
    """Added to a conversation without a system message: a trained policy expects the one of its training."""
    created: int = 0
    """Unix time, seconds."""
    adapter: str = ""
    """Folder of an adapter of the model at `path`; empty: the model itself. Models of one path share an
    engine if one of them has an adapter."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables of the replica's process."""
        return vllm_blueprint(self.path, (), self.engine).environment

    def template(self) -> ChatTemplate:
        """Load its tokenizer and chat template.

        Raises:
            EngineError: the folder has none, or the template cannot render a dialogue.
        """
        return ChatTemplate.from_folder(self.path, self.template_arguments, history=self.history)

    def prompt(self, template: ChatTemplate | None = None) -> ModelPrompt:
        """Return what renders requests for this model.

        Args:
            template: of its tokenizer; None loads it.

        Raises:
            EngineError: the folder has none, or the template cannot render a dialogue.
        """
        return ModelPrompt(
            template or self.template(),
            self.system_prompt,
            self.engine.max_model_len,
            self.id,
            takes_schema=self.sampler == "vllm" and self.engine.guidance,
            adapter=self.id if self.adapter else "",
        )


class ReplicaEngine(StreamingEngine, SamplingEngine, Protocol):
    """What a replica needs of an engine: whole replies for roles, streamed ones for clients."""


class ModelReplica:
    """Consumes rendered requests or a role's messages, produces text, waits for its engine.

    Args:
        spec: of the model.
        engine: of the model; None starts one.
        adapters: folders of the adapters that the engine serves besides the model, by model id.
    """

    def __init__(
        self,
        spec: ModelSpec,
        engine: ReplicaEngine | None = None,
        *,
        adapters: Mapping[str, str] | None = None,
    ) -> None:
        self._spec = spec
        if spec.engine.is_in_process:
            sys.setswitchinterval(_SWITCH_SECONDS)
        self._template = spec.template()
        self._engine: ReplicaEngine = engine or _start(spec, self._template, adapters)
        self._num_streams = 0
        self._failures = 0

    def prompt(self, model: ModelSpec | None = None) -> ModelPrompt:
        """Return what renders requests for a model of this engine, with the tokenizer that is already loaded.

        Args:
            model: one that shares the engine; None: the replica's own.
        """
        model = model or self._spec
        has_own = (model.template_arguments, model.history) != (
            self._spec.template_arguments,
            self._spec.history,
        )
        return model.prompt(None if has_own else self._template)

    async def stream(self, request: RenderedRequest) -> AsyncGenerator[TextDelta, None]:
        """Yield the reply in pieces, or in one piece if it is not streamed.

        Raises:
            BackendError: the engine refuses the request, or failed.
        """
        num_tokens, is_open, texts = 0, request.begins_in_thought, TokenTexts(self._template.text)
        tags = self._template.thinking_tags
        self._num_streams += request.is_streamed
        try:
            async with aclosing(self._pieces(request)) as pieces:
                async for piece in pieces:
                    num_tokens += piece.num_tokens
                    logprobs = self._logprobs(piece, texts)
                    if piece.finish_reason is not None:
                        self._failures = 0  # Before the yield: a reader may stop at the last piece.
                        usage = Usage(len(request.prompt_ids), num_tokens)
                        yield TextDelta(
                            piece.text,
                            piece.finish_reason,
                            usage,
                            begins_in_thought=is_open,
                            thinking_tags=tags,
                            logprobs=logprobs,
                        )
                    elif piece.text or logprobs:
                        yield TextDelta(
                            piece.text, begins_in_thought=is_open, thinking_tags=tags, logprobs=logprobs
                        )
                        is_open = False
        except (RequestRefused, ValueError, TypeError, OverflowError) as error:
            # No failure: otherwise any client could make the engine count as dead.
            problem = "The model cannot serve this request. Leave out unusual fields."
            raise BackendError(problem, kind="refused") from error
        except EngineError as error:
            self._failures += 1
            # Without the engine's message, which may quote its log and the conversation.
            raise BackendError("The model failed. Try again.", kind="unavailable") from error
        finally:
            self._num_streams -= request.is_streamed

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None
    ) -> ChatReply:
        """Answer as the model of a role, as `ChatModel.chat` does.

        Raises:
            ChatError: the conversation is too long, the engine failed, or the reply is empty.
        """
        name, limit = self._spec.id, self._spec.engine.max_model_len
        try:
            num_tokens = len(self._template.prompt(messages))
            if num_tokens >= limit:
                problem = f"{name}: the conversation has {num_tokens} tokens, the model's context is {limit}."
                raise ChatError(problem, kind="refused", endpoint=name)
            reply = await PolicyChat(self._engine, self._template, name=name).chat(messages, sampling, schema)
        except EngineError as error:
            problem = f"{name}: the chat template rejects this order of messages."
            raise ChatError(problem, kind="refused", endpoint=name) from error
        except ChatError as error:
            if error.kind != "infrastructure":
                raise
            if isinstance(error.__cause__, RequestRefused):
                problem = f"{name}: the engine refuses the request."
                raise ChatError(problem, kind="refused", endpoint=name) from error
            self._failures += 1
            raise ChatError(f"{name}: the engine failed.", kind="infrastructure", endpoint=name) from error
        self._failures = 0
        return reply

    def check(self) -> None:
        """Check that the engine still answers.

        Raises:
            BackendError: it has failed several times in a row.
        """
        if self._failures >= _FAILURES:
            raise BackendError(f"The engine failed {_FAILURES} times in a row.", kind="unavailable")

    def _pieces(self, request: RenderedRequest) -> AsyncGenerator[GeneratedChunk, None]:
        seconds = max(_PIECE_SECONDS, self._num_streams / _PIECES_PER_SECOND)
        return self._engine.stream(
            request.prompt_ids,
            request.sampling,
            chunk_seconds=seconds if request.is_streamed else None,
            options=request.options,
        )

    def _logprobs(self, piece: GeneratedChunk, texts: TokenTexts) -> tuple[TextLogprob, ...]:
        """Return the log probabilities of a piece's tokens, without the one that ends the reply."""
        kept = [sampled for sampled in piece.logprobs if sampled.token_id not in self._template.stop_ids]
        return tuple(texts.add(sampled) for sampled in kept)


def _start(
    spec: ModelSpec, template: ChatTemplate, adapters: Mapping[str, str] | None
) -> LocalEngine | VllmEngine:
    if spec.sampler == "vllm":
        return VllmEngine(
            spec.path,
            template.stop_ids,
            spec.engine,
            # A stream is split by its text, so that marks which are special tokens must be in it.
            keeps_special_tokens=template.has_special_marks,
            has_metrics=True,
            adapters=adapters,
        )
    from mica_ray.rollout.local_engine import LocalEngine

    return LocalEngine.from_folder(
        spec.path, template, dtype=spec.engine.dtype, context_length=spec.engine.max_model_len
    )
