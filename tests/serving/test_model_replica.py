"""Pieces of a reply that follow each other closely travel as one."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from mica_ray.rollout.engine import GeneratedPiece
from mica_ray.serving.backend import TextDelta, Usage
from mica_ray.serving.model_replica import paced


async def test_pieces_within_a_tenth_of_a_second_are_one_and_no_text_is_lost() -> None:
    spoken = [(0.00, "I"), (0.03, " am"), (0.06, ""), (0.12, " here"), (0.30, " for"), (0.35, " you")]
    now = 0.0

    async def pieces() -> AsyncGenerator[GeneratedPiece, None]:
        nonlocal now
        for now, text in spoken:  # noqa: B007
            yield GeneratedPiece(text, 1, None)
        yield GeneratedPiece(".", 1, "stop")

    deltas = [delta async for delta in paced(pieces(), 5, lambda: now)]
    assert deltas == [
        TextDelta("I"),
        TextDelta(" am here"),
        TextDelta(" for"),
        TextDelta(" you.", "stop", Usage(5, 7)),
    ]
