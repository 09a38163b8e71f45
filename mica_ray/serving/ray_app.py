"""The service on Ray Serve: one ingress with the web application, and the models behind it or beside it.

What it deploys are plain classes of other files; how the ingress asks them stands in handles.py.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.handle import DeploymentHandle

from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.launch.run import role_world
from mica_ray.safety.counts import CountedCare
from mica_ray.serving.handles import HandleChat, LocalModel, ReplicaModel, RetryingBackend, StreamingModel
from mica_ray.serving.http.backend import BackendError, TextDelta
from mica_ray.serving.judge_spec import JudgeSpec
from mica_ray.serving.model_prompt import RenderedRequest
from mica_ray.serving.model_replica import ModelReplica, ModelSpec
from mica_ray.serving.service_spec import Replicas, ServiceSpec
from mica_ray.serving.support.need_estimator import NeedEstimator
from mica_ray.serving.web_app import create_app
from mica_ray.types import Message, Sampling

if TYPE_CHECKING:
    from starlette.applications import Starlette

APPLICATION = "mica"
"""The application's name in Ray Serve."""

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
    # The proxy lets what has begun come to its end only while it stands: `shutdown` ends it with the rest.
    serve.delete(APPLICATION)
    serve.shutdown()


def application(spec: ServiceSpec) -> serve.Application:
    """Describe the service to Ray Serve."""
    local = spec.local_model
    behind = spec.models if local is None else ()
    models = {
        model.id: _model_deployment(spec, model, f"model-{index}") for index, model in enumerate(behind)
    }
    ingress = serve.deployment(serve.ingress()(Ingress)).options(
        name="ingress",
        num_replicas=1,  # Sessions and rates are counted in one place.
        ray_actor_options={"num_cpus": 0} if local is None else _actor_options(local),
        # The application refuses with 429 and Retry-After before Ray Serve would let anyone wait.
        max_ongoing_requests=4 * spec.settings.max_in_flight,
        **_common_options(spec),
    )
    return ingress.bind(spec, models, _judge_deployment(spec))


class Ingress:
    """The web application inside a replica."""

    def __init__(
        self, spec: ServiceSpec, models: Mapping[str, DeploymentHandle], judge: DeploymentHandle | None
    ) -> None:
        self._spec = spec
        self._models = models
        self._judge = judge
        local = spec.local_model
        self._local = None if local is None else ModelReplica(local)

    def __serve_build_asgi_app__(self) -> Starlette:
        """Make the application once the handles are known."""
        spec = self._spec
        models = {model.id: self._asked(model) for model in spec.models}
        return create_app(
            RetryingBackend(spec, models),
            spec.settings,
            care=CountedCare(spec.care),
            estimate=None if spec.judge is None else _estimate(spec.judge, self._judge),
        )

    async def check_health(self) -> None:
        """Tell Ray Serve to begin anew when the engine of the model in this process has failed.

        Raises:
            BackendError: it has.
        """
        if self._local is not None:
            self._local.check()

    def _asked(self, model: ModelSpec) -> StreamingModel:
        if self._local is not None:
            return LocalModel(self._local)
        if self._spec.is_ray_llm:
            from mica_ray.serving.ray_llm import RayLlmModel

            return RayLlmModel(self._models[model.id], model)
        return ReplicaModel(self._models[model.id], model.prompt())


class ReplicaDeployment:
    """A model's replica. Failures travel as values: what is raised, Ray Serve logs with its traceback."""

    def __init__(self, spec: ModelSpec) -> None:
        self._replica = ModelReplica(spec)

    async def stream(self, request: RenderedRequest) -> AsyncGenerator[TextDelta | BackendError, None]:
        """Give the reply piece by piece."""
        async with aclosing(self._replica.stream(request)) as pieces:
            try:
                async for piece in pieces:
                    yield piece
            except BackendError as error:
                yield error

    async def reply(self, request: RenderedRequest) -> TextDelta | BackendError:
        """Give the whole reply: one message between processes instead of several."""
        async with aclosing(self._replica.stream(request)) as pieces:
            try:
                return await anext(pieces)
            except BackendError as error:
                return error

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None
    ) -> ChatReply | ChatError:
        """Answer as a role of the service itself; no client gets here."""
        try:
            return await self._replica.chat(messages, sampling, schema)
        except ChatError as error:
            return error

    async def check_health(self) -> None:
        """Tell Ray Serve to replace this replica when its engine has failed.

        Raises:
            BackendError: it has.
        """
        self._replica.check()


def _estimate(judge: JudgeSpec, handle: DeploymentHandle | None) -> NeedEstimator:
    served = None if handle is None else lambda model: HandleChat(handle.chat.remote, model)
    world = role_world(judge.config, served)
    return NeedEstimator(world.judge, world.domain)


def _judge_deployment(spec: ServiceSpec) -> serve.Application | None:
    """Describe the judge's own model: a deployment like the others, whose handle the ingress alone has."""
    if spec.judge is None or spec.judge.model is None:
        return None
    copies = spec.judge.config.roles.num_engines
    replicas = Replicas(copies, copies, spec.replicas.target_ongoing, spec.replicas.max_ongoing)
    return _own_deployment(spec, spec.judge.model, replicas, "judge")


def _model_deployment(spec: ServiceSpec, model: ModelSpec, name: str) -> serve.Application:
    if spec.is_ray_llm:
        from mica_ray.serving.ray_llm import llm_deployment

        return llm_deployment(model, spec.replicas, {"name": name, **_common_options(spec)})
    return _own_deployment(spec, model, spec.replicas, name)


def _own_deployment(spec: ServiceSpec, model: ModelSpec, replicas: Replicas, name: str) -> serve.Application:
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
        name=name,
        ray_actor_options=_actor_options(model),
        max_ongoing_requests=replicas.max_ongoing,
        max_queued_requests=spec.settings.max_in_flight,
        **scaling,
        **_common_options(spec),
    )
    return deployment.bind(model)


def _actor_options(model: ModelSpec) -> dict[str, Any]:
    return {
        "num_cpus": model.engine.cpus_per_engine,
        "num_gpus": model.engine.gpus_per_engine,
        "runtime_env": {"env_vars": dict(model.environment)},
    }


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
