"""The deployments as the web application asks them: models as a `Backend`, the judge as a `ChatModel`.

What is deployed stands in app.py. A failure of Ray Serve becomes one of ours here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.serving.backend import BackendError, ChatRequest, ServedModel, TextDelta
from mica_ray.serving.deployment import ServiceSpec
from mica_ray.types import Message, Sampling

if TYPE_CHECKING:
    from mica_ray.serving.ray_llm import LlmModel

_ATTEMPTS = 3
"""Replicas asked for one reply, as long as none has said a word of it."""


class HandleBackend:
    """`Backend` over the models' deployments."""

    def __init__(self, spec: ServiceSpec, handles: Mapping[str, DeploymentHandle]) -> None:
        self._models = [ServedModel(model.id, model.created) for model in spec.models]
        self._handles = handles
        self._llm_models = _llm_models(spec, handles) if spec.is_ray_llm else {}

    def models(self) -> Sequence[ServedModel]:
        """Give the models."""
        return self._models

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        """Ask a replica; when it dies before its first word, another."""
        for attempt in range(_ATTEMPTS):
            has_spoken = False
            try:
                async with aclosing(self._ask(request)) as pieces:
                    async for piece in pieces:
                        has_spoken = True
                        yield piece
                return
            except BackPressureError as error:
                raise BackendError("all replicas are busy; try again", kind="busy") from error
            except (RayError, RayServeException) as error:
                if has_spoken or attempt == _ATTEMPTS - 1 or not _is_death(error):
                    raise BackendError("the model's replica failed; try again", kind="unavailable") from error

    async def _ask(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        model = self._llm_models.get(request.model)
        pieces = (
            _ask_replica(self._handles[request.model], request) if model is None else model.stream(request)
        )
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece


def _llm_models(spec: ServiceSpec, handles: Mapping[str, DeploymentHandle]) -> Mapping[str, LlmModel]:
    from mica_ray.serving.ray_llm import LlmModel

    return {model.id: LlmModel(handles[model.id], model) for model in spec.models}


async def _ask_replica(handle: DeploymentHandle, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
    if not request.is_streamed:
        whole = handle.reply.remote(request)
        try:
            yield _unwrapped(await whole)
        except asyncio.CancelledError:
            whole.cancel()  # Nobody waits for it: the replica must not go on sampling.
            raise
        return
    response: Any = handle.options(stream=True).stream.remote(request)
    is_done = False
    try:
        async for piece in response:
            yield _unwrapped(piece)
        is_done = True
    finally:
        if not is_done:
            response.cancel()


class PendingChat(Awaitable[ChatReply | ChatError], Protocol):
    """A role's answer on its way, as Ray Serve gives it."""

    def cancel(self) -> object:
        """Have the replica stop."""
        ...


AskRole = Callable[[Sequence[Message], Sampling, JsonSchema | None], PendingChat]
"""The `chat` of a deployment's replicas, asked through its handle."""


class HandleChat:
    """`ChatModel` over a deployment. Waits for a replica as long as its caller does.

    Args:
        ask: of the deployment.
        name: of the model, for messages.
    """

    def __init__(self, ask: AskRole, name: str) -> None:
        self._ask = ask
        self._name = name

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Answer the conversation.

        Raises:
            ChatError: no usable answer, or no replica that gives one.
        """
        pending = self._ask(list(messages), sampling, schema)
        try:
            answer = await pending
        except asyncio.CancelledError:
            pending.cancel()  # Its deadline has passed: the replica must not go on sampling.
            raise
        except (RayError, RayServeException) as error:
            problem = f"{self._name}: its replica failed or is busy"
            raise ChatError(problem, kind="infrastructure", endpoint=self._name) from error
        if isinstance(answer, ChatError):
            raise answer
        return answer


def _unwrapped(piece: TextDelta | BackendError) -> TextDelta:
    if isinstance(piece, BackendError):
        raise piece
    return piece


def _is_death(error: Exception) -> bool:
    """Whether the replica is gone, so that another may answer; its own errors are no death."""
    return not isinstance(error, RayTaskError | TaskCancelledError)
