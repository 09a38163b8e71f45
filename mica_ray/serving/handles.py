"""How the web application reaches models and judge: as a `ChatBackend` and as a `ChatModel`.

The deployments are in serving/ray_app.py. Errors of Ray Serve are converted to our own here.
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
"""Replicas tried for one reply, as long as none has sent a piece of it."""
_SERIALIZATION: Mapping[str, Any] = {"request_serialization": "pickle", "response_serialization": "pickle"}
"""Both sides know the sent classes; Ray Serve's default, cloudpickle, takes several times as long."""


class StreamingModel(Protocol):
    """A model, in this process or in a replica."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        """Yield one reply in pieces; closing the generator stops the sampling.

        Raises:
            BackendError: the request cannot be served, or the engine failed.
            RayError, RayServeException: the replica died or is full.
        """
        ...


class RetryingBackend:
    """`ChatBackend` that asks another replica when one dies before the first piece of its reply.

    Args:
        spec: of the service.
        models: model id to model.
    """

    def __init__(self, spec: ServiceSpec, models: Mapping[str, StreamingModel]) -> None:
        self._served = [ServedModel(model.id, model.created) for model in spec.models]
        self._models = models

    def models(self) -> Sequence[ServedModel]:
        """Return the models."""
        return self._served

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        """Yield the reply of a replica; retry on another one if it dies before its first piece."""
        for attempt in range(_ATTEMPTS):
            has_begun = False
            try:
                async with aclosing(self._models[request.model].stream(request)) as pieces:
                    async for piece in pieces:
                        has_begun = True
                        yield piece
                return
            except BackPressureError as error:
                raise BackendError("All replicas are busy. Try again soon.", kind="busy") from error
            except (RayError, RayServeException) as error:
                if has_begun or attempt == _ATTEMPTS - 1 or not _is_death(error):
                    raise BackendError(
                        "The model's replica failed. Try again.", kind="unavailable"
                    ) from error


class ReplicaModel:
    """A model in our own replicas. Consumes requests, produces text, waits for a replica.

    Args:
        handle: of its deployment.
        prompt: renders requests for the model.
    """

    def __init__(self, handle: DeploymentHandle, prompt: ModelPrompt) -> None:
        self._prompt = prompt
        self._reply = handle.options(method_name="reply", **_SERIALIZATION)
        self._stream = handle.options(method_name="stream", stream=True, **_SERIALIZATION)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        """Yield the reply in pieces, or in one piece if it is not streamed.

        Raises:
            BackendError: the conversation is too long, or the engine failed.
            RayError, RayServeException: the replica died or is full.
        """
        rendered = self._prompt.render(request)
        if not request.is_streamed:
            reply = self._reply.remote(rendered)
            try:
                yield _raise_error(await reply)
            except asyncio.CancelledError:
                reply.cancel()  # Nobody waits for the reply: the replica must stop sampling.
                raise
            return
        response: Any = self._stream.remote(rendered)
        is_done = False
        try:
            async for piece in response:
                delta = _raise_error(piece)
                if delta.finish_reason is not None:
                    # Our reader stops at the last piece. Ray Serve must not count that as a cancelled call.
                    async for _ in response:
                        pass
                    is_done = True
                yield delta
        finally:
            if not is_done:
                response.cancel()


class LocalModel:
    """A model in this process. Consumes requests, produces text, waits only for its engine.

    Args:
        replica: runs its engine.
        prompt: renders requests for the model.
    """

    def __init__(self, replica: ModelReplica, prompt: ModelPrompt) -> None:
        self._replica = replica
        self._prompt = prompt

    def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        """Yield the reply in pieces, or in one piece if it is not streamed.

        Raises:
            BackendError: the conversation is too long, or the engine failed.
        """
        return self._replica.stream(self._prompt.render(request))


class PendingChat(Awaitable[ChatReply | ChatError], Protocol):
    """A call to a role's model, as Ray Serve returns it."""

    def cancel(self) -> object:
        """Stop the replica's sampling."""
        ...


AskRole = Callable[[Sequence[Message], Sampling, JsonSchema | None], PendingChat]
"""The `chat` method of a deployment, called through its handle."""


class HandleChat:
    """`ChatModel` over a deployment. Waits for a replica as long as its caller does.

    Args:
        ask: the deployment's method.
        name: of the model, for error messages.
    """

    def __init__(self, ask: AskRole, name: str) -> None:
        self._ask = ask
        self._name = name

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None = None
    ) -> ChatReply:
        """Answer the conversation.

        Raises:
            ChatError: the answer is unusable, or no replica returned one.
        """
        pending = self._ask(list(messages), sampling, schema)
        try:
            reply = await pending
        except asyncio.CancelledError:
            pending.cancel()  # The caller's deadline has passed: the replica must stop sampling.
            raise
        except (RayError, RayServeException) as error:
            problem = f"{self._name}: the replica failed or is busy. Try again."
            raise ChatError(problem, kind="infrastructure", endpoint=self._name) from error
        if isinstance(reply, ChatError):
            raise reply
        return reply


def _raise_error(piece: TextDelta | BackendError) -> TextDelta:
    """Return a piece; raise the error that was sent in place of one."""
    if isinstance(piece, BackendError):
        raise piece
    return piece


def _is_death(error: Exception) -> bool:
    """Whether the replica is gone, so that another one may answer."""
    return not isinstance(error, RayTaskError | TaskCancelledError)
