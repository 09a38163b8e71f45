"""A load test: many concurrent clients of a local service, and their measurements.

Uses plain sockets, because the clients share the few cores of the service.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

REPLY_TOKENS = 48


@dataclass(slots=True)
class Load:
    """Measurements of all clients."""

    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter[str])
    latencies: list[float] = field(default_factory=list[float])
    """Seconds of each complete reply with status 200."""
    first_pieces: list[float] = field(default_factory=list[float])
    """Seconds to the first piece of streamed replies."""
    tokens: int = 0
    answered: list[float] = field(default_factory=list[float])
    """Arrival time of each reply with status 200, seconds on the monotonic clock."""

    def add(self, other: Load) -> None:
        """Add the measurements of another round."""
        self.seconds += other.seconds
        self.statuses += other.statuses
        self.latencies += other.latencies
        self.first_pieces += other.first_pieces
        self.tokens += other.tokens
        self.answered += other.answered

    def record(self) -> dict[str, object]:
        """Return the measurements as JSON values."""
        return {
            "seconds": self.seconds,
            "statuses": dict(self.statuses),
            "requests_per_second": len(self.latencies) / self.seconds,
            "tokens_per_second": self.tokens / self.seconds,
            "median_seconds": quantile(self.latencies, 0.5),
            "p95_seconds": quantile(self.latencies, 0.95),
            "median_first_piece_seconds": quantile(self.first_pieces, 0.5),
            "p95_first_piece_seconds": quantile(self.first_pieces, 0.95),
        }


async def ask_service(prompts: Sequence[str], *, port: int, clients: int, seconds: float) -> Load:
    """Run clients for a while; each sends its next prompt once the last one is answered."""
    load, begin = Load(), time.monotonic()

    async def client(index: int) -> None:
        number, connection = index, Connection(port)
        while time.monotonic() < begin + seconds:
            try:
                async with asyncio.timeout(180):
                    await _exchange(
                        load, connection, prompts[number % len(prompts)], streams=bool(index % 2), seed=number
                    )
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                connection.close()
                load.statuses[type(error).__name__] += 1
                await asyncio.sleep(0.2)
            number += clients
        connection.close()

    await asyncio.gather(*(client(index) for index in range(clients)))
    load.seconds = time.monotonic() - begin
    return load


class Connection:
    """A plain socket that stays open between requests, as in OpenAI's clients."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes) -> tuple[str, float, bytes]:
        """Send a request; return the status, the seconds to the first body byte, and the raw body."""
        begin = time.monotonic()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answered = (await reader.readuntil(b"\r\n\r\n")).lower()
        if (length := re.search(rb"content-length: *(\d+)", answered)) is not None:
            answer = await reader.readexactly(int(length[1]))
            first_seconds = time.monotonic() - begin
        else:
            answer = await reader.readuntil(b"\r\n")
            first_seconds = time.monotonic() - begin
            while not answer.endswith(b"\r\n0\r\n\r\n"):
                if not (more := await reader.read(65536)):
                    break
                answer += more
        if b"connection: close" in answered or not answer:
            self.close()
        return answered.split(b" ", 2)[1].decode(), first_seconds, answer

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _exchange(load: Load, connection: Connection, prompt: str, *, streams: bool, seed: int) -> None:
    fields: dict[str, object] = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": REPLY_TOKENS,
        "seed": seed,
        "stream": streams,
    }
    if streams:
        fields["stream_options"] = {"include_usage": True}
    begin = time.monotonic()
    status, first_seconds, answer = await connection.post(json.dumps(fields).encode())
    if status == "200" and streams and b"[DONE]" not in answer:
        connection.close()
        status = "200, broken off with an error" if b'"error"' in answer else "200, broken off"
    load.statuses[status] += 1
    if status in ("429", "503"):
        await asyncio.sleep(1)  # Both statuses ask the client to try again.
    if status != "200":
        return
    load.latencies.append(time.monotonic() - begin)
    load.answered.append(time.monotonic())
    if streams:
        load.first_pieces.append(first_seconds)
    load.tokens += int(re.findall(rb'"completion_tokens": *(\d+)', answer)[-1])


def quantile(values: Sequence[float], share: float) -> float:
    """Return the quantile at `share`, a multiple of 0.01 in (0, 1); NaN below two values."""
    if len(values) < 2:
        return math.nan
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]
