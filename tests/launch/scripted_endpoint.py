"""Scripted roles behind an HTTP server in a thread: random delays, and faults on purpose."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mica_ray.embedded.roles import ScriptedRoles
from mica_ray.types import Sampling
from tests.chat.local_endpoint import DROP, Answer, LocalEndpoint, Request, refusal

FAULTS = {3: refusal(500, "down"), 11: DROP}
"""Fault of a request by its number modulo 19."""

GARBLED = {1: "no JSON at all", 6: "{"}
"""Text that replaces the judge's first answer of this number; the repaired answer is valid."""

JUDGED = "C_progress_level"
"""A field that only the schema of the judge has."""


@dataclass(slots=True)
class ScriptedEndpoint:
    """Address of the server, and how many requests it got."""

    url: str = ""
    requests: int = 0
    judgements: int = 0
    """Requests for a judgement, without repairs."""


@contextmanager
def scripted_endpoint(*, is_faulty: bool, seed: int) -> Iterator[ScriptedEndpoint]:
    """Serve the scripted roles until the block ends; then the port is closed."""
    endpoint, roles, pauses = ScriptedEndpoint(), ScriptedRoles(), random.Random(seed)

    async def respond(request: Request) -> Answer:
        schema = request.get("response_format", {}).get("json_schema", {}).get("schema")
        is_first_judgement = JUDGED in (schema or {}).get("properties", {}) and len(request["messages"]) == 2
        endpoint.requests += 1
        endpoint.judgements += is_first_judgement
        if is_faulty and is_first_judgement and endpoint.judgements in GARBLED:
            return Answer(text=GARBLED[endpoint.judgements])
        fault = FAULTS.get(endpoint.requests % 19) if is_faulty else None
        if fault is not None:
            return fault
        sampling = Sampling(temperature=0.0, max_tokens=request["max_tokens"], seed=request["seed"])
        # A request to repair an answer gets the valid one.
        reply = await roles.chat(request["messages"][:2], sampling, schema)
        # Answers arrive out of order, and differently in every run.
        return Answer(text=reply.text, model=reply.model, after_seconds=pauses.uniform(0, 0.03))

    loop, ready, done = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with LocalEndpoint(respond=respond) as server:
            endpoint.url = server.url
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(timeout=10)
    try:
        yield endpoint
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(timeout=10)
