"""Security around every route: body limit, response headers, no conversation text in logs.

Plain ASGI: Starlette's own middleware class costs a task and a queue for each request.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.operations.request_record import current_record

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
_MAX_DIGITS = 20
"""Of a Content-Length that is converted: Python refuses to convert thousands of them."""


class SecurityMiddleware:
    """Wraps the whole application.

    Args:
        app: the wrapped application.
        max_body_bytes: a longer body is rejected with 413, by its Content-Length or while it arrives.
        hosts: host names under which the service may be called; None accepts any. Protects a service without
            keys from DNS rebinding: a page of another site whose host name points to this machine.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, hosts: Sequence[str] | None) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._hosts = None if hosts is None else tuple(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": _with_headers(message.get("headers", ()))}
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, self._limited(receive), send_with_headers)
        except ApiError as error:
            if not started:
                await _send_error(error, send_with_headers)
        except Exception as error:  # The server would log its message, which may quote the person.
            current_record().error = "internal"
            _LOG.error("%s %s: %s", scope["method"], type(error).__name__, _place(error))
            if not started:
                failed = ApiError(500, "The service failed. Try again.", type="server_error")
                await _send_error(failed, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if self._hosts is not None and _host_name(headers.get(b"host", b"")) not in self._hosts:
            raise ApiError(
                421,
                f"The service has another host name. Call it as {', '.join(self._hosts)}.",
                code="wrong_host",
            )
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise ApiError(400, "Content-Length must be a number.")
        if len(length) > _MAX_DIGITS or int(length) > self._max_body_bytes:
            raise self._too_large()

    def _limited(self, receive: Receive) -> Receive:
        num_bytes = 0

        async def receive_limited() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_body_bytes:
                raise self._too_large()
            return message

        return receive_limited

    def _too_large(self) -> ApiError:
        return ApiError(
            413,
            f"The body is larger than {self._max_body_bytes} bytes. Send a shorter conversation.",
            code="body_too_large",
        )


def _with_headers(present: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in present}
    headers = list(present) + [header for header in _HEADERS if header[0] not in names]
    return headers if _NO_STORE[0] in names else [*headers, _NO_STORE]


def _host_name(host: bytes) -> str:
    """Return the name in a Host header without its port: `[::1]:80` becomes `::1`."""
    text = host.decode("latin-1").lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]


async def _send_error(error: ApiError, send: Send) -> None:
    current_record().error = current_record().error or error.reason
    body = json.dumps(error.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    encoded = [(name.lower().encode(), text.encode()) for name, text in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def _place(error: Exception) -> str:
    """Return the file and line where an error was raised, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown place"
