"""The route /metrics: Prometheus counters of this process. Ray's own have another port."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mica_ray.serving.http.access import AccessControl


def metrics_route(access: AccessControl) -> Route:
    """Return the route GET /metrics; if the service has keys, Prometheus needs one too."""

    async def metrics(request: Request) -> Response:
        access.admit(request.headers.get("authorization", ""), "metrics")
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return Route("/metrics", metrics, methods=["GET"])
