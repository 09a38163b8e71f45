"""Whether the models answer: the route /ready. /health only shows that the process runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mica_ray.serving.http.backend import BackendError, ChatBackend, ChatRequest
from mica_ray.types import Sampling

_ANSWER_SECONDS = 10.0
"""Longest wait for one token of an idle model."""
_FRESH_SECONDS = 5.0
"""Time for which an outcome is used again: a client that asks often costs no tokens."""


class Readiness:
    """Asks each model for one token, and remembers the outcome for a few seconds.

    Args:
        backend: the models.
        clock: monotonic, seconds.
        answer_seconds: deadline of each model.
    """

    def __init__(
        self,
        backend: ChatBackend,
        *,
        clock: Callable[[], float] = time.monotonic,
        answer_seconds: float = _ANSWER_SECONDS,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._answer_seconds = answer_seconds
        self._probing = asyncio.Lock()
        self._outcome: dict[str, str] = {}
        self._probed_at: float | None = None

    async def outcome(self) -> dict[str, str]:
        """Return the state of each model: "ready", or the kind of its failure."""
        async with self._probing:
            if self._probed_at is None or self._clock() - self._probed_at >= _FRESH_SECONDS:
                names = [model.id for model in self._backend.models()]
                states = await asyncio.gather(*map(self._probe, names))
                self._outcome = dict(zip(names, states, strict=True))
                self._probed_at = self._clock()
            return self._outcome

    async def _probe(self, model: str) -> str:
        sampling = Sampling(temperature=0.0, max_tokens=1)
        request = ChatRequest(model, ({"role": "user", "content": "Hello."},), sampling)
        try:
            async with (
                asyncio.timeout(self._answer_seconds),
                aclosing(self._backend.stream(request)) as pieces,
            ):
                async for piece in pieces:
                    if piece.finish_reason is not None:
                        return "ready"
        except TimeoutError:
            return "timeout"
        except BackendError as error:
            # A busy model answers, only not this request.
            return "ready" if error.kind == "busy" else error.kind
        return "unavailable"


def ready_route(readiness: Readiness) -> Route:
    """Return the route GET /ready: 200 if every model answers, 503 otherwise."""

    async def ready(request: Request) -> Response:
        models = await readiness.outcome()
        is_ready = bool(models) and all(state == "ready" for state in models.values())
        body = {"status": "ready" if is_ready else "not ready", "models": models}
        return JSONResponse(body, status_code=200 if is_ready else 503)

    return Route("/ready", ready, methods=["GET"])
