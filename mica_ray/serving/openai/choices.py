"""The choices of one request: each is a reply of its own, sampled at the same time as the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace

from mica_ray.safety.check import CareFinding
from mica_ray.seeding import derive_seed
from mica_ray.serving.http.backend import (
    ChatRequest,
    FinishReason,
    FunctionCall,
    TextDelta,
    TextLogprob,
    Usage,
)
from mica_ray.serving.http.responder import Responder
from mica_ray.serving.openai.tool_calls import with_calls

_Piece = tuple[int, TextDelta]


@dataclass(frozen=True, slots=True)
class Choice:
    """A complete reply."""

    text: str
    thinking: str
    finish_reason: FinishReason
    logprobs: tuple[TextLogprob, ...]
    calls: tuple[FunctionCall, ...]


async def stream_choices(
    responder: Responder, request: ChatRequest, finding: CareFinding | None, num_choices: int
) -> AsyncGenerator[_Piece, None]:
    """Yield the pieces of all choices with their index, as they arrive.

    Choice 0 has the request's seed, so that it equals the reply of a request for one choice.

    Raises:
        ApiError: a choice failed; the others are stopped.
    """
    names = _function_names(request)
    if num_choices == 1:
        stream = responder.stream(request, finding)
        async with aclosing(with_calls(stream, names) if names else stream) as pieces:
            async for piece in pieces:
                yield 0, piece
        return
    arrived: asyncio.Queue[_Piece | Exception] = asyncio.Queue(maxsize=num_choices)

    async def read(index: int) -> None:
        stream = with_calls(responder.stream(_seeded(request, index), finding), names)
        try:
            async with aclosing(stream) as pieces:
                async for piece in pieces:
                    await arrived.put((index, piece))
        except Exception as error:  # Raised below, in the task of the request.
            await arrived.put(error)

    readers = [asyncio.create_task(read(index)) for index in range(num_choices)]
    try:
        num_open = num_choices
        while num_open:
            piece = await arrived.get()
            if isinstance(piece, Exception):
                raise piece
            num_open -= piece[1].finish_reason is not None
            yield piece
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def joined_choices(
    pieces: AsyncGenerator[_Piece, None], num_choices: int
) -> tuple[list[Choice], Usage]:
    """Join the pieces of each choice.

    Raises:
        ApiError: a choice failed before its last piece.
    """
    found: list[list[TextDelta]] = [[] for _ in range(num_choices)]
    async with aclosing(pieces):
        async for index, piece in pieces:
            found[index].append(piece)
    return [_joined(choice) for choice in found], total_usage(choice[-1].usage for choice in found)


def total_usage(usages: Iterable[Usage | None]) -> Usage:
    """Return the usage of all choices: their prompt, which they share, counts once."""
    known = [usage for usage in usages if usage is not None]
    return Usage(
        max((usage.prompt_tokens for usage in known), default=0),
        sum(usage.completion_tokens for usage in known),
    )


def _joined(pieces: list[TextDelta]) -> Choice:
    return Choice(
        text="".join(piece.text for piece in pieces),
        thinking="".join(piece.thinking for piece in pieces),
        finish_reason=pieces[-1].finish_reason or "stop",
        logprobs=tuple(logprob for piece in pieces for logprob in piece.logprobs),
        calls=tuple(call for piece in pieces for call in piece.calls),
    )


def _seeded(request: ChatRequest, index: int) -> ChatRequest:
    seed = request.sampling.seed
    if seed is None or index == 0:
        return request
    return replace(request, sampling=replace(request.sampling, seed=derive_seed("choice", seed, index)))


def _function_names(request: ChatRequest) -> list[str]:
    if request.tool_use is None:
        return []
    functions = [tool["function"] for tool in request.tool_use.tools]
    return [str(function["name"]) for function in functions if isinstance(function, dict)]
