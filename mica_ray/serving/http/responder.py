"""From a request to the pieces of its reply: care check, then the model, within a deadline.

Separates the model's thinking from its reply, for every backend.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from mica_ray.chat.thinking import SpokenStream
from mica_ray.chat.thinking_marks import marks_with
from mica_ray.safety.check import CareCheck, CareFinding
from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.backend import (
    BackendError,
    ChatBackend,
    ChatRequest,
    TextDelta,
    TextLogprob,
    Usage,
)
from mica_ray.serving.http.settings import ServeSettings

_HELP_LINE_SEPARATOR = "\n\n"
"""Between the help line and the model's reply."""


@dataclass(slots=True, eq=False)
class Responder:
    """Answers requests: consumes a `ChatRequest`, yields text, waits for the backend.

    Args:
        backend: the models.
        settings: deadline, and the limit on concurrent requests.
        care: checks the person's last messages before the model runs.
    """

    backend: ChatBackend
    settings: ServeSettings
    care: CareCheck
    in_flight: int = 0

    def check_care(self, request: ChatRequest, locale: str) -> CareFinding | None:
        """Check what the person wrote since the last reply for signs of acute danger."""
        last: list[str] = []
        for message in reversed(request.messages):
            if message["role"] != "user":
                break
            last.append(message["content"])
        return self.care.check("\n".join(reversed(last)), locale)

    def resolve_model(self, model: str) -> str:
        """Return the id of the requested model; an empty name means the first model.

        Raises:
            ApiError: 404, there is no such model.
        """
        names = [served.id for served in self.backend.models()]
        if not model and names:
            return names[0]
        if model not in names:
            known = ", ".join(names) or "none yet"
            raise ApiError(
                404,
                f"The requested model is not served. Use one of: {known}.",
                param="model",
                code="model_not_found",
            )
        return model

    async def stream(
        self, request: ChatRequest, finding: CareFinding | None = None
    ) -> AsyncGenerator[TextDelta, None]:
        """Yield the reply in pieces; only the last piece has a finish reason and the usage.

        With a finding the help line is the first piece, whether or not the model replies after it.

        Raises:
            ApiError: the model returned no reply, was too slow, or the service is busy. With a finding the
                reply ends after the help line instead.
        """
        if finding is None:
            async with aclosing(_split_thinking(self._model_pieces(request))) as pieces:
                async for piece in pieces:
                    yield piece
            return
        yield TextDelta(finding.lead, is_help_line=True)
        separator = _HELP_LINE_SEPARATOR
        try:
            async with aclosing(_split_thinking(self._model_pieces(request))) as pieces:
                async for piece in pieces:
                    yield replace(piece, text=separator + piece.text) if piece.text else piece
                    separator = "" if piece.text else separator
        except ApiError:
            yield TextDelta("", "stop", Usage(0, 0))

    async def _model_pieces(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        if self.in_flight >= self.settings.max_in_flight:
            busy = BackendError("The service is answering too many requests. Try again soon.", kind="busy")
            raise self._error(busy)
        self.in_flight += 1
        deadline = asyncio.get_running_loop().time() + self.settings.request_seconds
        try:
            async with aclosing(self.backend.stream(request)) as deltas:
                while (delta := await self._next(deltas, deadline)) is not None:
                    yield delta
                    if delta.finish_reason is not None:
                        return
            raise self._error(BackendError("The reply ended early. Try again.", kind="unavailable"))
        finally:
            self.in_flight -= 1

    async def _next(self, deltas: AsyncGenerator[TextDelta, None], deadline: float) -> TextDelta | None:
        try:
            async with asyncio.timeout_at(deadline):
                return await anext(deltas, None)
        except TimeoutError as error:
            seconds = self.settings.request_seconds
            timeout = BackendError(
                f"The reply took more than {seconds:g} s. Try again, or ask for fewer tokens.", kind="timeout"
            )
            raise self._error(timeout) from error
        except BackendError as error:
            raise self._error(error) from error

    def _error(self, error: BackendError) -> ApiError:
        return ApiError.of_backend(error, self.settings.retry_after_seconds)


async def _split_thinking(pieces: AsyncGenerator[TextDelta, None]) -> AsyncGenerator[TextDelta, None]:
    """Separate thinking from text; a reply that ends inside a thought ends with "length"."""
    stream: SpokenStream | None = None
    logprobs: tuple[TextLogprob, ...] = ()
    async with aclosing(pieces):
        async for piece in pieces:
            marks = marks_with(piece.thinking_tags)
            stream = stream or SpokenStream(is_open=piece.begins_in_thought, marks=marks)
            spoken = stream.feed(piece.text)
            text, thinking, reason = spoken.text, spoken.thinking, piece.finish_reason
            logprobs += piece.logprobs  # Kept while the text is held back.
            if reason is not None:
                last = stream.end()
                text, thinking = text + last.text, thinking + last.thinking
                reason = "length" if stream.is_open else reason
            if text or thinking or reason is not None:
                yield TextDelta(text, reason, piece.usage, thinking=thinking, logprobs=logprobs)
                logprobs = ()
