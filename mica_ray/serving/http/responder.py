"""From a request to the pieces of its reply: care check, then the model, within a deadline.

Separates the model's thinking from its reply, for every backend.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from mica_ray.chat.thinking import SpokenStream
from mica_ray.chat.thinking_marks import marks_with
from mica_ray.safety.check import CareFinding
from mica_ray.safety.paced_check import PacedCare
from mica_ray.serving.http.api_error import ApiError
from mica_ray.serving.http.backend import (
    BackendError,
    ChatBackend,
    ChatRequest,
    TextDelta,
    TextLogprob,
    ToolUse,
    Usage,
)
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.operations.recent_replies import RecentReplies
from mica_ray.serving.operations.request_record import current_record
from mica_ray.serving.operations.service_metrics import ServiceMetrics, service_metrics
from mica_ray.types import Message
from mica_ray.valid_text import ValidStream

_LOG = logging.getLogger(__name__)
_HELP_LINE_SEPARATOR = "\n\n"
"""Between the help line and the model's reply."""


@dataclass(slots=True, eq=False)
class Responder:
    """Answers requests: consumes a `ChatRequest`, yields text, waits for the backend.

    Args:
        backend: the models.
        settings: deadline, and the limit on concurrent requests.
        care: checks the person's last messages before the model runs.
        metrics: count tokens, waiting requests and failures.
        replies: remembers which models answered a conversation, if the service stores votes.
    """

    backend: ChatBackend
    settings: ServeSettings
    care: PacedCare
    metrics: ServiceMetrics = field(default_factory=service_metrics)
    replies: RecentReplies = field(default_factory=RecentReplies)
    in_flight: int = 0

    async def check_care(self, request: ChatRequest, locale: str) -> CareFinding | None:
        """Check what the person wrote since the last reply for signs of acute danger."""
        finding = await self.care.check(_unanswered(request.messages), locale)
        if finding is not None:
            current_record().care = finding.kind
            if finding.kind == "unchecked":
                self.metrics.care_unchecked.inc()
        return finding

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

    def stream(
        self, request: ChatRequest, finding: CareFinding | None = None
    ) -> AsyncGenerator[TextDelta, None]:
        """Yield the reply in pieces; only the last piece has a finish reason and the usage.

        With a finding the help line is the first piece, whether or not the model replies after it.

        Raises:
            ApiError: the model returned no reply, was too slow, or the service is busy. With a finding the
                reply ends after the help line instead.
        """
        current_record().model = request.model
        pieces = _split_thinking(self._model_pieces(request))
        return pieces if finding is None else self._after_help_line(finding, pieces)

    async def _after_help_line(
        self, finding: CareFinding, reply: AsyncGenerator[TextDelta, None]
    ) -> AsyncGenerator[TextDelta, None]:
        yield TextDelta(finding.lead, is_help_line=True)
        is_first = True
        try:
            async with aclosing(reply) as pieces:
                async for piece in pieces:
                    if piece.text and is_first:
                        yield TextDelta(_HELP_LINE_SEPARATOR, is_help_line=True)
                        is_first = False
                    yield piece
        except Exception as error:  # Whatever fails, the help line must arrive.
            self._note_missing_reply(error)
            yield TextDelta("", "stop", Usage(0, 0))

    async def _model_pieces(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        if self.in_flight >= self.settings.max_in_flight:
            busy = BackendError("The service is answering too many requests. Try again soon.", kind="busy")
            raise self._error(busy)
        self.in_flight += 1
        try:
            with self.metrics.at_model(request.model) as call:
                deadline = asyncio.get_running_loop().time() + self.settings.request_seconds
                async with aclosing(self.backend.stream(self._without_help_lines(request))) as deltas:
                    while (delta := await self._next(deltas, deadline)) is not None:
                        call.count(delta.usage)
                        if delta.finish_reason is not None and self.settings.votes_file is not None:
                            self.replies.add(current_record().key, request.messages, request.model)
                        yield delta
                        if delta.finish_reason is not None:
                            return
            raise self._error(BackendError("The reply ended early. Try again.", kind="unavailable"))
        finally:
            self.in_flight -= 1

    def _without_help_lines(self, request: ChatRequest) -> ChatRequest:
        """Remove help lines from the history: they are the operator's words, not the model's.

        A reply that was only a help line is left out, and the person's messages around it are joined.
        """
        if all(message["role"] != "assistant" for message in request.messages):
            return request
        messages: list[Message] = []
        joins_next = False
        for message in request.messages:
            content = message["content"]
            if message["role"] == "assistant":
                content = self.care.without_help_line(content)
                if not content and message["content"]:
                    joins_next = True
                    continue
            elif joins_next and message["role"] == "user" and messages and messages[-1]["role"] == "user":
                content = f"{messages.pop()['content']}\n\n{content}"
            joins_next = False
            messages.append({**message, "content": content})
        return replace(request, messages=tuple(messages), tool_use=self._tool_use(request.tool_use))

    def _tool_use(self, tool_use: ToolUse | None) -> ToolUse | None:
        """Remove help lines from the conversation as chat templates with tools read it."""
        if tool_use is None:
            return None
        messages = [
            {**message, "content": self.care.without_help_line(content)}
            if message.get("role") == "assistant" and isinstance(content := message.get("content"), str)
            else message
            for message in tool_use.messages
        ]
        return replace(tool_use, messages=tuple(messages))

    def _note_missing_reply(self, error: Exception) -> None:
        """Count and log the failure of which the client sees only the help line."""
        reason = error.reason if isinstance(error, ApiError) else "internal"
        current_record().error = reason
        self.metrics.care_without_reply.labels(reason=reason).inc()
        _LOG.error(
            "No reply after a help line: %s.", type(error).__name__ if reason == "internal" else reason
        )

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
        converted = ApiError.of_backend(error, self.settings.retry_after_seconds)
        current_record().error = converted.reason  # In a stream the status stays 200.
        return converted


def _unanswered(messages: Sequence[Message]) -> str:
    """Return what the person wrote since the last reply.

    Messages of other roles, empty replies and a reply that the client begins itself hide none of it.
    """
    found: list[str] = []
    for message in reversed(messages):
        if message["role"] == "user":
            found.append(message["content"])
        elif message["role"] == "assistant" and message["content"].strip() and found:
            break
    return "\n".join(reversed(found))


async def _split_thinking(pieces: AsyncGenerator[TextDelta, None]) -> AsyncGenerator[TextDelta, None]:
    """Separate thinking from text; a reply that ends inside a thought ends with "length"."""
    stream: SpokenStream | None = None
    logprobs: tuple[TextLogprob, ...] = ()
    valid = ValidStream()
    async with aclosing(pieces):
        async for piece in pieces:
            marks = marks_with(piece.thinking_tags)
            stream = stream or SpokenStream(is_open=piece.begins_in_thought, marks=marks)
            reason = piece.finish_reason
            spoken = stream.feed(valid.feed(piece.text) + (valid.end() if reason is not None else ""))
            text, thinking = spoken.text, spoken.thinking
            logprobs += piece.logprobs  # Kept while the text is held back.
            if reason is not None:
                last = stream.end()
                text, thinking = text + last.text, thinking + last.thinking
                reason = "length" if stream.is_open else reason
            if text or thinking or reason is not None:
                yield TextDelta(text, reason, piece.usage, thinking=thinking, logprobs=logprobs)
                logprobs = ()
