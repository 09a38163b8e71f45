"""A backend without a model: replies with fixed words, and fails where a test needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from mica_ray.serving.http.backend import BackendError, ChatRequest, ServedModel, TextDelta, Usage

WORDS = ("That ", "sounds ", "heavy.")


@dataclass
class ScriptedBackend:
    """Replies to every request with `words`, one word a piece."""

    words: Sequence[str] = WORDS
    names: Sequence[str] = ("support",)
    begins_in_thought: bool = False
    thinking_tags: tuple[str, ...] = ()
    error: BackendError | None = None
    error_after: int = 0
    """Number of words before the error."""
    pause_seconds: float = 0.0
    """Pause before each word."""
    gate: asyncio.Event | None = None
    """If there is one, no word is sent before it is set."""
    requests: list[ChatRequest] = field(default_factory=list)
    num_closed: int = 0
    """Streams that ended, complete or closed by the client."""

    def models(self) -> Sequence[ServedModel]:
        return [ServedModel(name, created=1) for name in self.names]

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        self.requests.append(request)
        try:
            if self.gate is not None:
                await self.gate.wait()
            for index, word in enumerate(self.words):
                await asyncio.sleep(self.pause_seconds)
                if self.error is not None and index == self.error_after:
                    raise self.error
                is_last = index == len(self.words) - 1
                yield TextDelta(
                    word,
                    finish_reason="stop" if is_last else None,
                    usage=Usage(7, len(self.words)) if is_last else None,
                    begins_in_thought=self.begins_in_thought and index == 0,
                    thinking_tags=self.thinking_tags,
                )
        finally:
            self.num_closed += 1
