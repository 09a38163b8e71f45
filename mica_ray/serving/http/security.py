"""What stands before every route: bounds on the body, headers on every answer, no text in any log.

Plain ASGI: Starlette's own middleware class costs a task and a queue for each request.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mica_ray.serving.http.api_error import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOG = logging.getLogger(__name__)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_NO_STORE = (b"cache-control", b"no-store")


class SecurityMiddleware:
    """Wraps the whole application.

    Args:
        app: what is wrapped.
        max_body_bytes: a longer body is refused with 413, by its announced length or while it arrives.
        hosts: names under which the service may be called; None for any. A page elsewhere whose name was
            pointed at this machine is thereby refused where no key would stop it.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, hosts: Sequence[str] | None) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": _with_headers(message.get("headers", ()))}
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, self._bounded(receive), answer)
        except ApiError as error:
            if not started:
                await _refuse(error, answer)
        except Exception as error:  # The server would log it with its message, which may quote a person.
            _LOG.error("%s %s: %s", scope["method"], type(error).__name__, _place(error))
            if not started:
                await _refuse(ApiError(500, "the service failed; try again", type="server_error"), answer)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if self._hosts is not None and _host_name(headers.get(b"host", b"")) not in self._hosts:
            raise ApiError(421, "this service answers under other host names", code="wrong_host")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise ApiError(400, "Content-Length is not a number")
        if int(length) > self._max_body_bytes:
            raise self._too_large()

    def _bounded(self, receive: Receive) -> Receive:
        taken = 0

        async def take() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_body_bytes:
                raise self._too_large()
            return message

        return take

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self._max_body_bytes} bytes", code="body_too_large")


def _with_headers(given: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in given}
    kept = list(given) + [header for header in _HEADERS if header[0] not in names]
    return kept if _NO_STORE[0] in names else [*kept, _NO_STORE]


def _host_name(host: bytes) -> str:
    """Give the name of a Host header without its port: `[::1]:80` is `::1`."""
    text = host.decode("latin-1").lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]


async def _refuse(error: ApiError, send: Send) -> None:
    body = json.dumps(error.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    encoded = [(name.lower().encode(), text.encode()) for name, text in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def _place(error: Exception) -> str:
    """Say where an error arose, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown place"
