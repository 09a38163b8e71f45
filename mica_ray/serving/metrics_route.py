"""The route /metrics: counters of this process, for Prometheus. Ray has a metrics port for its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mica_ray.serving.callers import Callers

if TYPE_CHECKING:
    from fastapi import FastAPI


def add_metrics_route(app: FastAPI, callers: Callers) -> None:
    """Add GET /metrics; a service with keys asks Prometheus for one too."""
    from fastapi import Request, Response
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    async def metrics(request: Request) -> Response:
        callers.admit(request.headers.get("authorization", ""))
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    metrics.__annotations__ |= {"request": Request, "return": Response}
    app.add_api_route("/metrics", metrics, methods=["GET"], response_model=None)
