"""From a checked request to pieces of its answer: the care check first, then the model, within a deadline.

What a model thinks is told apart from what it says here, for every backend.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from mica_ray.chat.thinking import SpokenStream
from mica_ray.safety.check import CareCheck, CareFinding
from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.backend import BackendError, ChatBackend, ChatRequest, TextDelta, Usage
from mica_ray.serving.http.settings import ServeSettings

_BETWEEN = "\n\n"
"""Between the help line and the model's reply."""


@dataclass(slots=True, eq=False)
class Responder:
    """Answers requests. Consumes a `ChatRequest`, produces text; waits for the backend, never too long.

    Args:
        backend: the models.
        settings: deadline, bound on requests at once.
        care: looks through the person's last message before the model is asked.
    """

    backend: ChatBackend
    settings: ServeSettings
    care: CareCheck
    in_flight: int = 0

    def find(self, request: ChatRequest, locale: str) -> CareFinding | None:
        """Look through what the person wrote since the last reply."""
        last: list[str] = []
        for message in reversed(request.messages):
            if message["role"] != "user":
                break
            last.append(message["content"])
        return self.care.check("\n".join(reversed(last)), locale)

    def named(self, model: str) -> str:
        """Give the model that a request means; the first where it names none.

        Raises:
            ApiError: 404, there is no such model.
        """
        names = [served.id for served in self.backend.models()]
        if not model and names:
            return names[0]
        if model not in names:
            known = ", ".join(names) or "none yet"
            raise ApiError(404, f"no such model; served are: {known}", param="model", code="model_not_found")
        return model

    async def pieces(
        self, request: ChatRequest, finding: CareFinding | None = None
    ) -> AsyncGenerator[TextDelta, None]:
        """Give the answer piece by piece; the last piece alone has a finish reason and the usage.

        A help line comes first where one is due, and whether or not a model answers after it.

        Raises:
            ApiError: the model gives no answer, or not in time, or too many are asked already.
        """
        if finding is None:
            async with aclosing(_told_apart(self._model_pieces(request))) as pieces:
                async for piece in pieces:
                    yield piece
            return
        yield TextDelta(finding.lead, is_help_line=True)
        between = _BETWEEN
        try:
            async with aclosing(_told_apart(self._model_pieces(request))) as pieces:
                async for piece in pieces:
                    yield replace(piece, text=between + piece.text) if piece.text else piece
                    between = "" if piece.text else between
        except ApiError:
            yield TextDelta("", "stop", Usage(0, 0))

    async def _model_pieces(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        if self.in_flight >= self.settings.max_in_flight:
            raise self._error(BackendError("too many requests at once; try again", kind="busy"))
        self.in_flight += 1
        deadline = asyncio.get_running_loop().time() + self.settings.request_seconds
        try:
            async with aclosing(self.backend.stream(request)) as deltas:
                while (delta := await self._next(deltas, deadline)) is not None:
                    yield delta
                    if delta.finish_reason is not None:
                        return
            raise self._error(BackendError("the reply broke off; try again", kind="unavailable"))
        finally:
            self.in_flight -= 1

    async def _next(self, deltas: AsyncGenerator[TextDelta, None], deadline: float) -> TextDelta | None:
        try:
            async with asyncio.timeout_at(deadline):
                return await anext(deltas, None)
        except TimeoutError as error:
            seconds = self.settings.request_seconds
            late = BackendError(f"the reply took more than {seconds:g} s", kind="timeout")
            raise self._error(late) from error
        except BackendError as error:
            raise self._error(error) from error

    def _error(self, error: BackendError) -> ApiError:
        return ApiError.of_backend(error, self.settings.retry_after_seconds)


async def _told_apart(pieces: AsyncGenerator[TextDelta, None]) -> AsyncGenerator[TextDelta, None]:
    """Tell what is thought from what is said. A reply that is cut off inside a thought was too long."""
    stream: SpokenStream | None = None
    async with aclosing(pieces):
        async for piece in pieces:
            stream = stream or SpokenStream(is_open=piece.begins_in_thought)
            spoken = stream.feed(piece.text)
            text, thinking, reason = spoken.text, spoken.thinking, piece.finish_reason
            if reason is not None:
                last = stream.end()
                text, thinking = text + last.text, thinking + last.thinking
                reason = "length" if stream.is_open else reason
            if text or thinking or reason is not None:
                yield TextDelta(text, reason, piece.usage, thinking=thinking)
