"""The web application over a `ChatBackend`: routes, chat page, errors. No Ray here.

A request passes operations/request_middleware.py, http/security.py, http/access.py and a route;
http/responder.py then asks the model.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from mica_ray.safety.check import CareCheck, NoCare
from mica_ray.safety.paced_check import PacedCare
from mica_ray.serving.http.access import AccessControl
from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.api_keys import KeyFile
from mica_ray.serving.http.backend import ChatBackend
from mica_ray.serving.http.metrics_route import metrics_route
from mica_ray.serving.http.responder import Responder
from mica_ray.serving.http.responses import json_response
from mica_ray.serving.http.security import SecurityMiddleware
from mica_ray.serving.http.settings import LOOPBACK_NAMES, ServeSettings
from mica_ray.serving.http.token_budget import TokenBudget
from mica_ray.serving.http.votes import vote_route
from mica_ray.serving.openai.chat_routes import chat_routes
from mica_ray.serving.openai.response_routes import response_routes
from mica_ray.serving.operations.readiness import Readiness, ready_route
from mica_ray.serving.operations.request_middleware import RequestMiddleware
from mica_ray.serving.operations.request_record import current_record
from mica_ray.serving.support.need_estimator import NeedEstimator
from mica_ray.serving.support.routes import session_routes
from mica_ray.serving.support.session import FileStore, MemoryStore, SessionStore
from mica_ray.serving.support.sessions import SupportSessions

_UPKEEP_SECONDS = 10.0
PAGE_FOLDER = Path(__file__).parent / "page"


def create_app(
    backend: ChatBackend,
    settings: ServeSettings,
    *,
    care: CareCheck | None = None,
    estimator: NeedEstimator | None = None,
) -> Starlette:
    """Build the application.

    Args:
        backend: the models.
        settings: limits, keys, sessions.
        care: checks what the person wrote before the model runs; None checks nothing.
        estimator: of the need state in support sessions; None estimates nothing.
    """
    keys = None if settings.keys_file is None else KeyFile(settings.keys_file)
    budget = TokenBudget(None if settings.keys_file is None else _budget_file(settings.keys_file))
    access = AccessControl(keys, settings, budget=budget)
    responder = Responder(backend, settings, PacedCare(care or NoCare(), seconds=settings.care_seconds))
    store = _session_store(settings) if settings.sessions else None
    routes: list[BaseRoute] = [
        *chat_routes(responder, access, settings),
        *response_routes(responder, access, settings),
    ]
    if store is not None:
        sessions = SupportSessions(responder, store, settings, estimator, access.max_sessions)
        routes += session_routes(sessions, access)
    routes += [
        metrics_route(access),
        vote_route(responder, access, settings.votes_file),
        ready_route(Readiness(backend)),
        _features_route(access, settings, estimates=estimator is not None),
        *_page_routes(),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(RequestMiddleware, metrics=responder.metrics, audit_file=settings.audit_file),
            _security(settings),
            *_cors(settings),
        ],
        exception_handlers={ApiError: _error_response, HTTPException: _error_response},
        lifespan=_upkeep(store, access),
    )


def _security(settings: ServeSettings) -> Middleware:
    hosts = LOOPBACK_NAMES if settings.keys_file is None else None
    return Middleware(SecurityMiddleware, max_body_bytes=settings.max_body_bytes, hosts=hosts)


def _cors(settings: ServeSettings) -> list[Middleware]:
    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    ]


def _features_route(access: AccessControl, settings: ServeSettings, *, estimates: bool) -> Route:
    """Return the route GET /v1/support: the features the page may show."""

    async def features(request: Request) -> Response:
        access.admit(request.headers.get("authorization", ""), None)
        return json_response(
            {
                "object": "support",
                "sessions": settings.sessions,
                "session_seconds": settings.session_seconds if settings.sessions else None,
                "stored": settings.sessions_file is not None,
                "estimates": settings.sessions and estimates,
                "votes": settings.votes_file is not None,
            }
        )

    return Route("/v1/support", features, methods=["GET"])


def _session_store(settings: ServeSettings) -> SessionStore:
    if settings.sessions_file is None:
        return MemoryStore(settings.max_sessions)
    return FileStore(settings.sessions_file, settings.max_sessions)


def _upkeep(
    store: SessionStore | None, access: AccessControl
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """Delete expired sessions and save the token counts every few seconds, whether or not requests arrive."""

    async def repeat() -> None:
        while True:
            if store is not None:
                store.delete_expired()
            access.save()
            await asyncio.sleep(_UPKEEP_SECONDS)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(repeat())
        try:
            yield
        finally:
            task.cancel()
            access.save()

    return lifespan


def _budget_file(keys_file: Path) -> Path:
    return keys_file.with_name(f".{keys_file.name}.tokens")


async def _error_response(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):  # An unknown path, or a method that its route does not accept.
        problem = f"{error.detail}. Check the path and the method of the request."
        code = "method_not_allowed" if error.status_code == 405 else "no_such_route"
        headers = dict(error.headers or {})  # Allow, with the accepted methods.
        error = ApiError(error.status_code, problem, code=code)
    else:
        headers = {}
    assert isinstance(error, ApiError)
    current_record().error = current_record().error or error.reason
    return JSONResponse(error.body, status_code=error.status, headers=headers | error.headers)


def _page_routes() -> list[BaseRoute]:
    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def page(request: Request) -> Response:
        return FileResponse(PAGE_FOLDER / "index.html", media_type="text/html")

    return [
        Route("/health", health, methods=["GET"]),
        Route("/", page, methods=["GET"]),
        Mount("/static", StaticFiles(directory=PAGE_FOLDER, check_dir=False), name="static"),
    ]
