"""The service on Ray Serve: one ingress with the web application, and the models' replicas behind it.

Beside ray_llm.py the only file that knows Ray Serve. What it deploys are plain classes of other files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.serve.config import HTTPOptions
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from mica_ray.config.run_config import RunConfig
from mica_ray.run import role_world
from mica_ray.serving.backend import BackendError, ChatRequest, ServedModel, TextDelta
from mica_ray.serving.care_counts import CountedCare
from mica_ray.serving.deployment import ServiceSpec
from mica_ray.serving.http_app import create_app
from mica_ray.serving.model_replica import ModelReplica, ModelSpec
from mica_ray.serving.need_estimate import NeedEstimate

if TYPE_CHECKING:
    from fastapi import FastAPI

APPLICATION = "mica"
"""The application's name in Ray Serve."""

_ATTEMPTS = 3
"""Replicas asked for one reply, as long as none has said a word of it."""
_DRAIN_LOOP_SECONDS = 0.5


def serve_application(spec: ServiceSpec, *, host: str, port: int) -> None:
    """Bring the service up, or replace the version that runs; waits until it answers. Ray must be running.

    Replacing fails no request: the new replicas start first, and the old ones finish what they have begun.
    """
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(
            host=host,
            port=port,
            # Only a backstop: the application has a deadline of its own, and answers when it passes.
            request_timeout_s=spec.settings.request_seconds + 30,
        ),
    )
    serve.run(application(spec), name=APPLICATION, route_prefix="/")


def end_service() -> None:
    """Finish what has begun, then end all replicas."""
    serve.shutdown()


def application(spec: ServiceSpec) -> serve.Application:
    """Describe the service to Ray Serve."""
    models = {model.id: _model_deployment(spec, model, index) for index, model in enumerate(spec.models)}
    ingress = serve.deployment(serve.ingress()(Ingress)).options(
        name="ingress",
        num_replicas=1,  # Sessions and rates are counted in one place.
        ray_actor_options={"num_cpus": 0},
        # The application refuses with 429 and Retry-After before Ray Serve would let anyone wait.
        max_ongoing_requests=4 * spec.settings.max_in_flight,
        **_common_options(spec),
    )
    return ingress.bind(spec, models)


class Ingress:
    """The web application inside a replica."""

    def __init__(self, spec: ServiceSpec, handles: Mapping[str, DeploymentHandle]) -> None:
        self._spec = spec
        self._handles = handles

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Make the application once the handles are known."""
        spec = self._spec
        return create_app(
            HandleBackend(spec, self._handles),
            spec.settings,
            care=CountedCare(spec.care),
            estimate=None if spec.judge is None else _estimate(spec.judge),
        )


class ReplicaDeployment:
    """A model's replica. Failures travel as values: what is raised, Ray Serve logs with its traceback."""

    def __init__(self, spec: ModelSpec) -> None:
        self._replica = ModelReplica(spec)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta | BackendError, None]:
        """Give the reply piece by piece."""
        async with aclosing(self._replica.stream(request)) as pieces:
            try:
                async for piece in pieces:
                    yield piece
            except BackendError as error:
                yield error

    async def reply(self, request: ChatRequest) -> TextDelta | BackendError:
        """Give the whole reply: one message between processes instead of several."""
        async with aclosing(self._replica.stream(request)) as pieces:
            try:
                return await anext(pieces)
            except BackendError as error:
                return error

    async def check_health(self) -> None:
        """Tell Ray Serve to replace this replica when its engine has failed.

        Raises:
            BackendError: it has.
        """
        self._replica.check()


class HandleBackend:
    """`Backend` over the models' deployments."""

    def __init__(self, spec: ServiceSpec, handles: Mapping[str, DeploymentHandle]) -> None:
        self._specs = {model.id: model for model in spec.models}
        self._handles = handles
        self._is_ray_llm = spec.is_ray_llm

    def models(self) -> Sequence[ServedModel]:
        """Give the models."""
        return [ServedModel(model.id, model.created) for model in self._specs.values()]

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
        handle = self._handles[request.model]
        if self._is_ray_llm:
            from mica_ray.serving.ray_llm import ask_llm

            pieces = ask_llm(handle, self._specs[request.model], request)
        else:
            pieces = _ask_replica(handle, request)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece


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


def _estimate(config: RunConfig) -> NeedEstimate:
    world = role_world(config)
    return NeedEstimate(world.judge, world.domain)


def _unwrapped(piece: TextDelta | BackendError) -> TextDelta:
    if isinstance(piece, BackendError):
        raise piece
    return piece


def _is_death(error: Exception) -> bool:
    """Whether the replica is gone, so that another may answer; its own errors are no death."""
    return not isinstance(error, RayTaskError | TaskCancelledError)


def _model_deployment(spec: ServiceSpec, model: ModelSpec, index: int) -> serve.Application:
    if spec.is_ray_llm:
        from mica_ray.serving.ray_llm import llm_deployment

        return llm_deployment(model, spec.replicas, {"name": f"model-{index}", **_common_options(spec)})
    replicas = spec.replicas
    scaling: dict[str, Any] = (
        {
            "autoscaling_config": {
                "min_replicas": replicas.at_least,
                "max_replicas": replicas.at_most,
                "target_ongoing_requests": replicas.target_ongoing,
            }
        }
        if replicas.are_scaled
        else {"num_replicas": replicas.at_least}
    )
    deployment = serve.deployment(ReplicaDeployment).options(
        name=f"model-{index}",
        ray_actor_options={
            "num_cpus": model.engine.cpus_per_engine,
            "num_gpus": model.engine.gpus_per_engine,
            "runtime_env": {"env_vars": dict(model.environment)},
        },
        max_ongoing_requests=replicas.max_ongoing,
        max_queued_requests=spec.settings.max_in_flight,
        **scaling,
        **_common_options(spec),
    )
    return deployment.bind(model)


def _common_options(spec: ServiceSpec) -> dict[str, Any]:
    return {
        # A redeployment starts the new replicas before it ends the old ones, and those finish their replies.
        "max_surge_percent": 100,
        "graceful_shutdown_timeout_s": spec.settings.request_seconds,
        "graceful_shutdown_wait_loop_s": _DRAIN_LOOP_SECONDS,
        "health_check_period_s": 5,
        # A busy replica is slow and not dead; one whose process ended is noticed without a check.
        "health_check_timeout_s": 120,
        "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
    }
