"""Around every request: its id, its metrics, and one audit line without text.

Plain ASGI, outside of http/security.py, so that refused requests are recorded too.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.files import append_line, mend_lines
from mica_ray.serving.operations.request_record import RequestRecord, recording
from mica_ray.serving.operations.service_metrics import ServiceMetrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

AUDIT_LOG = "mica_ray.audit"
"""Name of the logger that gets the lines if there is no audit file."""
_LOG = logging.getLogger(AUDIT_LOG)
_HEADER = b"x-request-id"
_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class RequestMiddleware:
    """Records requests.

    A request keeps the X-Request-Id of its client or proxy if that has 1 to 128 letters, digits or `._:-`;
    otherwise it gets a new one. The response has it too, and what is left of the key's limits.

    Args:
        app: the wrapped application.
        metrics: count the requests.
        audit_file: JSON lines, one a request; None sends them to the logger AUDIT_LOG at level INFO.
    """

    def __init__(self, app: ASGIApp, *, metrics: ServiceMetrics, audit_file: Path | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._audit_file = audit_file
        if audit_file is not None:
            mend_lines(audit_file)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record, begin = RequestRecord(_request_id(scope)), time.monotonic()
        status, is_complete = 0, False

        async def send_recorded(message: Message) -> None:
            nonlocal status, is_complete
            if message["type"] == "http.response.start":
                status = message["status"]
                present = [pair for pair in message.get("headers", ()) if pair[0].lower() != _HEADER]
                limits = [(name.encode(), value.encode()) for name, value in record.limits.items()]
                message = {**message, "headers": [*present, (_HEADER, record.id.encode()), *limits]}
            await send(message)
            is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            with recording(record):
                await self._app(scope, receive, send_recorded)
        finally:
            self._metrics.count_request(record, status)
            if self._audit_file is not None or _LOG.isEnabledFor(logging.INFO):
                self._write(
                    {
                        "time": round(time.time(), 3),
                        "id": record.id,
                        "method": scope["method"],
                        "route": _route(scope),
                        "status": status,
                        "complete": is_complete,
                        "ms": round(1000 * (time.monotonic() - begin), 1),
                        **_fields(record),
                    }
                )

    def _write(self, line: Mapping[str, object]) -> None:
        text = json.dumps(line)
        if self._audit_file is None:
            _LOG.info("%s", text)
            return
        try:
            append_line(self._audit_file, text.encode())
        except OSError as error:  # A full disk must not end the service.
            logging.getLogger(__name__).error("%s: %s. Free its disk.", self._audit_file, error.strerror)


def _fields(record: RequestRecord) -> dict[str, object]:
    first = record.first_piece_seconds
    return {
        "key": record.key,
        "model": record.model,
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
        "first_ms": None if first is None else round(1000 * first, 1),
        "care": record.care,
        "error": record.error,
    }


def _request_id(scope: Scope) -> str:
    sent = dict(scope["headers"]).get(_HEADER, b"")
    return sent.decode() if _ID.fullmatch(sent) else f"req-{secrets.token_hex(12)}"


def _route(scope: Scope) -> str:
    """Return the pattern of the route, not the path: a session's id is a secret, any path is a text."""
    endpoint = scope.get("endpoint")
    for route in scope["app"].routes if endpoint is not None else ():
        if endpoint in (getattr(route, "endpoint", None), getattr(route, "app", None)):
            return getattr(route, "path_format", "unknown")
    return "unknown"
