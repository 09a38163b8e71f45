"""The web application over a `Backend`: routes, the page, errors in OpenAI's form. Knows no Ray.

Before the routes stands shield.py (bounds, headers) and callers.py (keys); behind them answering.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.serving.answering import Answering
from mica_ray.serving.api_error import ApiError
from mica_ray.serving.api_keys import KeyFile
from mica_ray.serving.backend import Backend
from mica_ray.serving.callers import Callers
from mica_ray.serving.care import CareCheck, NoCare
from mica_ray.serving.chat_routes import add_chat_routes, json_response
from mica_ray.serving.metrics_route import add_metrics_route
from mica_ray.serving.need_estimate import NeedEstimate
from mica_ray.serving.session_routes import add_session_routes
from mica_ray.serving.settings import LOOPBACK_NAMES, ServeSettings
from mica_ray.serving.shield import Shield
from mica_ray.serving.support_session import FileStore, MemoryStore, SessionStore
from mica_ray.serving.support_sessions import SupportSessions
from mica_ray.serving.votes import add_vote_routes

if TYPE_CHECKING:
    from fastapi import FastAPI

_FORGET_EVERY_SECONDS = 60.0
PAGE = Path(__file__).parent / "page"


def create_app(
    backend: Backend,
    settings: ServeSettings,
    *,
    care: CareCheck | None = None,
    estimate: NeedEstimate | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        backend: the models.
        settings: bounds, keys, sessions.
        care: looks through what a person wrote before a model is asked; None looks for nothing.
        estimate: of the need state in support sessions; None estimates nothing.
    """
    from fastapi import FastAPI
    from starlette.middleware.cors import CORSMiddleware

    keys = None if settings.keys_file is None else KeyFile(settings.keys_file)
    callers = Callers(keys, requests_per_minute=settings.requests_per_minute)
    answering = Answering(backend, settings, care or NoCare())
    # No pages that describe the API: they would load scripts from elsewhere, which the policy forbids.
    store = _session_store(settings) if settings.sessions else None
    app = FastAPI(
        title=settings.title, docs_url=None, redoc_url=None, openapi_url=None, lifespan=_forgetting(store)
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(
        Shield,
        max_body_bytes=settings.max_body_bytes,
        hosts=LOOPBACK_NAMES if keys is None else None,
    )
    _tell_errors(app)
    add_chat_routes(app, answering, callers, settings)
    if store is not None:
        add_session_routes(app, SupportSessions(answering, store, settings, estimate), callers)
    add_metrics_route(app, callers)
    add_vote_routes(app, backend, callers, settings.votes_file)
    _add_offer(app, callers, settings, estimates=estimate is not None)
    _add_page(app)
    return app


def _add_offer(app: FastAPI, callers: Callers, settings: ServeSettings, *, estimates: bool) -> None:
    """Add GET /v1/support: what the page may show."""
    from fastapi import Request, Response

    async def offer(request: Request) -> Response:
        callers.admit(request.headers.get("authorization", ""))
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

    offer.__annotations__ |= {"request": Request, "return": Response}
    app.add_api_route("/v1/support", offer, methods=["GET"], response_model=None)


def _session_store(settings: ServeSettings) -> SessionStore:
    if settings.sessions_file is None:
        return MemoryStore(settings.max_sessions)
    return FileStore(settings.sessions_file, settings.max_sessions)


def _forgetting(store: SessionStore | None) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """While the application lives, forget sessions on time, whether or not anyone calls."""

    async def forget() -> None:
        while store is not None:
            store.forget_expired()
            await asyncio.sleep(_FORGET_EVERY_SECONDS)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        forgetting = asyncio.create_task(forget())
        yield
        forgetting.cancel()

    return lifespan


def _tell_errors(app: FastAPI) -> None:
    from fastapi import Request
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    async def tell(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, HTTPException):  # No such path, or another method than it takes.
            error = ApiError(error.status_code, error.detail, code="no_such_route")
        assert isinstance(error, ApiError)
        return JSONResponse(error.body, status_code=error.status, headers=error.headers)

    app.add_exception_handler(ApiError, tell)
    app.add_exception_handler(HTTPException, tell)


def _add_page(app: FastAPI) -> None:
    from fastapi.responses import FileResponse, JSONResponse
    from starlette.staticfiles import StaticFiles

    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", media_type="text/html")

    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/", page, methods=["GET"])
    app.mount("/static", StaticFiles(directory=PAGE, check_dir=False), name="static")
