"""For browser tests: the service in a thread, an echoing backend, a generous judge."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import uvicorn

from mica_ray.dialogue.role_messages import SpokenTurn
from mica_ray.serving.http.backend import BackendError, ChatRequest, ServedModel, TextDelta, Usage
from mica_ray.types import Judgement, Scenario, State

if TYPE_CHECKING:
    from starlette.applications import Starlette


@contextmanager
def threaded(app: Starlette) -> Iterator[str]:
    """Serve until the block ends; yield the address, `http://127.0.0.1:PORT`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            server.force_exit = True
            thread.join(timeout=30)


@dataclass
class EchoBackend:
    """Replies with its name and the last message, in two pieces; the second waits for the gate."""

    names: Sequence[str] = ("trained",)
    gate: threading.Event = field(default_factory=threading.Event)
    failures: int = 0
    """Number of requests that fail before the first success."""
    requests: list[ChatRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def models(self) -> Sequence[ServedModel]:
        return [ServedModel(name, created=1) for name in self.names]

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta, None]:
        self.requests.append(request)
        if self.failures:
            self.failures -= 1
            raise BackendError("The model is starting. Try again.", kind="unavailable")
        yield TextDelta(f"I am {request.model}. ")
        while not self.gate.is_set():
            await asyncio.sleep(0.01)
        yield TextDelta(f"You said: {request.messages[-1]['content']}", "stop", Usage(3, 4))


@dataclass(frozen=True)
class GenerousJudge:
    """Scores every reply with one point on each axis."""

    async def score(
        self, scenario: Scenario, dialogue: Sequence[SpokenTurn], *, state: State, seed: int
    ) -> Judgement:
        return Judgement(progress=(1, 1, 1), regress=(0, 0, 0), delta=(1.0, 1.0, 1.0))
