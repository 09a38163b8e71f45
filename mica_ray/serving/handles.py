"""Models and judge as the web application asks them: as a `ChatBackend`, and as a `ChatModel`.

What is deployed stands in app.py. A failure of Ray Serve becomes one of ours here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.serving.http.backend import BackendError, ChatRequest, ServedModel, TextDelta
from mica_ray.serving.model_prompt import ModelPrompt
from mica_ray.serving.model_replica import ModelReplica
from mica_ray.serving.service_spec import ServiceSpec
from mica_ray.types import Message, Sampling

_ATTEMPTS = 3
"""Replicas asked for one reply, as long as none has said a word of it."""
_ON_THE_WIRE: Mapping[str, Any] = {"request_serialization": "pickle", "response_serialization": "pickle"}
"""What is sent has its class on both sides; cloudpickle, Ray Serve's default, takes several times as long."""


class StreamingModel(Protocol):
    """A model as the web application asks it, wherever it is."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        """Ask for one reply; closing the generator ends the sampling.

        Raises:
            BackendError: it cannot be served, or failed.
            RayError, RayServeException: the replica died, or has no room.
        """
        ...


class RetryingBackend:
    """`ChatBackend` over the models, each wherever it is.

    Args:
        spec: of the service.
        models: how each is asked, by id.
    """

    def __init__(self, spec: ServiceSpec, models: Mapping[str, StreamingModel]) -> None:
        self._served = [ServedModel(model.id, model.created) for model in spec.models]
        self._models = models

    def models(self) -> Sequence[ServedModel]:
        """Give the models."""
        return self._served

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        """Ask a replica; when it dies before its first word, another."""
        for attempt in range(_ATTEMPTS):
            has_spoken = False
            try:
                async with aclosing(self._models[request.model].stream(request)) as pieces:
                    async for piece in pieces:
                        has_spoken = True
                        yield piece
                return
            except BackPressureError as error:
                raise BackendError("all replicas are busy; try again", kind="busy") from error
            except (RayError, RayServeException) as error:
                if has_spoken or attempt == _ATTEMPTS - 1 or not _is_death(error):
                    raise BackendError("the model's replica failed; try again", kind="unavailable") from error


class ReplicaModel:
    """A model in our own replicas. Consumes requests, produces text; waits for a replica.

    Args:
        handle: of its deployment.
        prompt: how requests are rendered for it.
    """

    def __init__(self, handle: DeploymentHandle, prompt: ModelPrompt) -> None:
        self._prompt = prompt
        self._whole = handle.options(method_name="reply", **_ON_THE_WIRE)
        self._in_pieces = handle.options(method_name="stream", stream=True, **_ON_THE_WIRE)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        """Give the reply piece by piece, or in one piece where it is not to be streamed.

        Raises:
            BackendError: the conversation does not fit, or the engine failed.
            RayError, RayServeException: the replica died, or has no room.
        """
        rendered = self._prompt.render(request)
        if not request.is_streamed:
            whole = self._whole.remote(rendered)
            try:
                yield _unwrapped(await whole)
            except asyncio.CancelledError:
                whole.cancel()  # Nobody waits for it: the replica must not go on sampling.
                raise
            return
        response: Any = self._in_pieces.remote(rendered)
        is_done = False
        try:
            async for piece in response:
                delta = _unwrapped(piece)
                if delta.finish_reason is not None:
                    # Whoever has the last piece reads no further; Ray Serve must not take that for a break.
                    async for _ in response:
                        pass
                    is_done = True
                yield delta
        finally:
            if not is_done:
                response.cancel()


class LocalModel:
    """A model in this process. Consumes requests, produces text; waits for its engine alone.

    Args:
        replica: the model.
    """

    def __init__(self, replica: ModelReplica) -> None:
        self._replica = replica
        self._prompt = replica.prompt()

    def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        """Give the reply piece by piece, or in one piece where it is not to be streamed.

        Raises:
            BackendError: the conversation does not fit, or the engine failed.
        """
        return self._replica.stream(self._prompt.render(request))


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
