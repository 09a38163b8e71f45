"""The service on Ray Serve: an ingress with the web application, and the models.

Deploys plain classes of other files; serving/handles.py has the calls from the ingress to the models.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions
from ray.serve.handle import DeploymentHandle

from mica_ray.chat.model import ChatError, ChatReply, JsonSchema
from mica_ray.error_lines import last_line
from mica_ray.launch.start_world import role_world
from mica_ray.rollout.engine import EngineError
from mica_ray.safety.counts import CountedCare
from mica_ray.serving.handles import HandleChat, LocalModel, ReplicaModel, RetryingBackend, StreamingModel
from mica_ray.serving.http.backend import BackendError, TextDelta
from mica_ray.serving.judge_spec import JudgeSpec
from mica_ray.serving.model_prompt import RenderedRequest
from mica_ray.serving.model_replica import ModelReplica, ModelSpec
from mica_ray.serving.service_spec import Certificate, Replicas, ServiceSpec, SharedEngine
from mica_ray.serving.support.need_estimator import NeedEstimator
from mica_ray.serving.web_app import create_app
from mica_ray.types import Message, Sampling

if TYPE_CHECKING:
    from starlette.applications import Starlette

APPLICATION = "mica"
"""The application's name in Ray Serve."""

_DRAIN_LOOP_SECONDS = 0.5


def serve_application(
    spec: ServiceSpec, *, host: str, port: int, certificate: Certificate | None = None
) -> None:
    """Start the service, or replace the running version, and wait until it answers.

    Ray must be running. Replacing a version fails no request: new replicas start first, and the old ones
    finish their replies.

    Args:
        spec: of the service.
        host: address to listen on.
        port: to listen on.
        certificate: for HTTPS; None serves plain HTTP.

    Raises:
        EngineError: the proxy or a replica does not start.
    """
    options = HTTPOptions(
        host=host,
        port=port,
        # A fallback only: the application has its own, earlier deadline and answers when it passes.
        request_timeout_s=spec.settings.request_seconds + 30,
        ssl_certfile=None if certificate is None else str(certificate.file),
        ssl_keyfile=None if certificate is None else str(certificate.key),
    )
    try:
        serve.start(proxy_location="HeadOnly", http_options=options)
        serve.run(application(spec), name=APPLICATION, route_prefix="/")
    except (RuntimeError, RayError) as error:
        # The text ends with the error of the replica, below its traceback.
        raise EngineError(
            f"The service does not start ({last_line(error)}). Check the model folder and Ray Serve's log."
        ) from error


def end_service() -> None:
    """Finish the replies in progress, then stop all replicas."""
    # Replies in progress need the proxy, which `shutdown` stops together with everything else.
    serve.delete(APPLICATION)
    serve.shutdown()


def application(spec: ServiceSpec) -> serve.Application:
    """Return the deployments of the service, bound to each other."""
    local = spec.local_engine
    models: dict[str, serve.Application] = {}
    for index, engine in enumerate(spec.engines if local is None else ()):
        deployed = _engine_deployment(spec, engine, f"model-{index}")
        models |= dict.fromkeys((model.id for model in engine.models), deployed)
    ingress = serve.deployment(serve.ingress()(Ingress)).options(
        name="ingress",
        num_replicas=1,  # One process keeps the sessions and counts the requests.
        ray_actor_options={"num_cpus": 0} if local is None else _actor_options(local.base),
        # The application answers 429 with Retry-After before Ray Serve would let a request wait.
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
        local = spec.local_engine
        self._local = None if local is None else ModelReplica(local.base, adapters=local.adapters)

    def __serve_build_asgi_app__(self) -> Starlette:
        """Build the application; Ray Serve calls this once the handles are known."""
        spec = self._spec
        models = {model.id: self._streaming_model(model) for model in spec.models}
        return create_app(
            RetryingBackend(spec, models),
            spec.settings,
            care=CountedCare(spec.care),
            estimator=None if spec.judge is None else _estimator(spec.judge, self._judge),
        )

    async def check_health(self) -> None:
        """Check the engine of the local model; Ray Serve restarts the process if this raises.

        Raises:
            BackendError: the engine has failed.
        """
        if self._local is not None:
            self._local.check()

    def _streaming_model(self, model: ModelSpec) -> StreamingModel:
        if self._local is not None:
            return LocalModel(self._local, self._local.prompt(model))
        if self._spec.is_ray_llm:
            from mica_ray.serving.ray_llm import RayLlmModel

            return RayLlmModel(self._models[model.id], model)
        return ReplicaModel(self._models[model.id], model.prompt())


class ReplicaDeployment:
    """A model's replica. Returns errors as values: Ray Serve logs raised ones with a traceback."""

    def __init__(self, spec: ModelSpec, adapters: Mapping[str, str] | None = None) -> None:
        self._replica = ModelReplica(spec, adapters=adapters)

    async def stream(self, request: RenderedRequest) -> AsyncGenerator[TextDelta | BackendError, None]:
        """Yield the reply in pieces."""
        async with aclosing(self._replica.stream(request)) as pieces:
            try:
                async for piece in pieces:
                    yield piece
            except BackendError as error:
                yield error

    async def reply(self, request: RenderedRequest) -> TextDelta | BackendError:
        """Return the complete reply: one message between processes instead of several."""
        async with aclosing(self._replica.stream(request)) as pieces:
            try:
                return await anext(pieces)
            except BackendError as error:
                return error

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, schema: JsonSchema | None
    ) -> ChatReply | ChatError:
        """Answer as the model of a role; clients cannot call this."""
        try:
            return await self._replica.chat(messages, sampling, schema)
        except ChatError as error:
            return error

    async def check_health(self) -> None:
        """Check the engine; Ray Serve replaces this replica if this raises.

        Raises:
            BackendError: the engine has failed.
        """
        self._replica.check()


def _estimator(judge: JudgeSpec, handle: DeploymentHandle | None) -> NeedEstimator:
    served = None if handle is None else lambda model: HandleChat(handle.chat.remote, model)
    world = role_world(judge.config, served)
    return NeedEstimator(world.judge, world.domain, judge.config.roles.deadline_seconds)


def _judge_deployment(spec: ServiceSpec) -> serve.Application | None:
    """Deploy the judge's own model like the others; only the ingress gets its handle."""
    if spec.judge is None or spec.judge.model is None:
        return None
    copies = spec.judge.config.roles.num_engines
    replicas = Replicas(copies, copies, spec.replicas.target_ongoing, spec.replicas.max_ongoing)
    engine = SharedEngine(spec.judge.model, (spec.judge.model,))
    return _replica_deployment(spec, engine, replicas, "judge")


def _engine_deployment(spec: ServiceSpec, engine: SharedEngine, name: str) -> serve.Application:
    if spec.is_ray_llm:
        from mica_ray.serving.ray_llm import llm_deployment

        return llm_deployment(engine.base, spec.replicas, {"name": name, **_common_options(spec)})
    return _replica_deployment(spec, engine, spec.replicas, name)


def _replica_deployment(
    spec: ServiceSpec, engine: SharedEngine, replicas: Replicas, name: str
) -> serve.Application:
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
        ray_actor_options=_actor_options(engine.base),
        max_ongoing_requests=replicas.max_ongoing,
        max_queued_requests=spec.settings.max_in_flight,
        **scaling,
        **_common_options(spec),
    )
    return deployment.bind(engine.base, engine.adapters)


def _actor_options(model: ModelSpec) -> dict[str, Any]:
    return {
        "num_cpus": model.engine.cpus_per_engine,
        "num_gpus": model.engine.gpus_per_engine,
        "runtime_env": {"env_vars": dict(model.environment)},
    }


def _common_options(spec: ServiceSpec) -> dict[str, Any]:
    return {
        # A redeployment starts all new replicas before it stops the old ones, which finish their replies.
        "max_surge_percent": 100,
        "graceful_shutdown_timeout_s": spec.settings.request_seconds,
        "graceful_shutdown_wait_loop_s": _DRAIN_LOOP_SECONDS,
        "health_check_period_s": 5,
        # A busy replica answers its check late. One whose process died is noticed without a check.
        "health_check_timeout_s": 120,
        "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
    }
