"""The web application over a `ChatBackend`: routes, the page, errors in OpenAI's form. Knows no Ray.

Before the routes stands security.py (bounds, headers) and access.py (keys); behind them responder.py.
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
from mica_ray.serving.http.access import AccessControl
from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.api_keys import KeyFile
from mica_ray.serving.http.backend import ChatBackend
from mica_ray.serving.http.chat_routes import chat_routes
from mica_ray.serving.http.metrics_route import metrics_route
from mica_ray.serving.http.responder import Responder
from mica_ray.serving.http.responses import json_response
from mica_ray.serving.http.security import SecurityMiddleware
from mica_ray.serving.http.settings import LOOPBACK_NAMES, ServeSettings
from mica_ray.serving.http.votes import vote_route
from mica_ray.serving.support.need_estimator import NeedEstimator
from mica_ray.serving.support.routes import session_routes
from mica_ray.serving.support.session import FileStore, MemoryStore, SessionStore
from mica_ray.serving.support.sessions import SupportSessions

_FORGET_EVERY_SECONDS = 60.0
PAGE = Path(__file__).parent / "page"


def create_app(
    backend: ChatBackend,
    settings: ServeSettings,
    *,
    care: CareCheck | None = None,
    estimate: NeedEstimator | None = None,
) -> Starlette:
    """Make the application.

    Args:
        backend: the models.
        settings: bounds, keys, sessions.
        care: looks through what a person wrote before a model is asked; None looks for nothing.
        estimate: of the need state in support sessions; None estimates nothing.
    """
    keys = None if settings.keys_file is None else KeyFile(settings.keys_file)
    access = AccessControl(keys, requests_per_minute=settings.requests_per_minute)
    responder = Responder(backend, settings, care or NoCare())
    store = _session_store(settings) if settings.sessions else None
    routes: list[BaseRoute] = [*chat_routes(responder, access, settings)]
    if store is not None:
        routes += session_routes(SupportSessions(responder, store, settings, estimate), access)
    routes += [
        metrics_route(access),
        vote_route(backend, access, settings.votes_file),
        _offer_route(access, settings, estimates=estimate is not None),
        *_page_routes(),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(
                SecurityMiddleware,
                max_body_bytes=settings.max_body_bytes,
                hosts=LOOPBACK_NAMES if keys is None else None,
            ),
            *_cors(settings),
        ],
        exception_handlers={ApiError: _tell, HTTPException: _tell},
        lifespan=_forgetting(store),
    )


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


def _offer_route(access: AccessControl, settings: ServeSettings, *, estimates: bool) -> Route:
    """Give GET /v1/support: what the page may show."""

    async def offer(request: Request) -> Response:
        access.admit(request.headers.get("authorization", ""))
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

    return Route("/v1/support", offer, methods=["GET"])


def _session_store(settings: ServeSettings) -> SessionStore:
    if settings.sessions_file is None:
        return MemoryStore(settings.max_sessions)
    return FileStore(settings.sessions_file, settings.max_sessions)


def _forgetting(store: SessionStore | None) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """While the application lives, forget sessions on time, whether or not anyone calls."""

    async def forget() -> None:
        while store is not None:
            store.forget_expired()
            await asyncio.sleep(_FORGET_EVERY_SECONDS)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        forgetting = asyncio.create_task(forget())
        yield
        forgetting.cancel()

    return lifespan


async def _tell(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):  # No such path, or another method than it takes.
        error = ApiError(error.status_code, error.detail, code="no_such_route")
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)


def _page_routes() -> list[BaseRoute]:
    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def page(request: Request) -> Response:
        return FileResponse(PAGE / "index.html", media_type="text/html")

    return [
        Route("/health", health, methods=["GET"]),
        Route("/", page, methods=["GET"]),
        Mount("/static", StaticFiles(directory=PAGE, check_dir=False), name="static"),
    ]
