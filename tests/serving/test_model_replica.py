"""Pieces that follow each other closely travel as one; an engine that fails again and again is dead."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from mica_ray.rollout.engine import GeneratedPiece
from mica_ray.rollout.vllm_engine import EngineConfig
from mica_ray.serving.backend import BackendError, TextDelta, Usage
from mica_ray.serving.model_prompt import RenderedRequest
from mica_ray.serving.model_replica import ModelReplica, ModelSpec, paced
from mica_ray.types import Sampling
from tests.small_policy import small_folder


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


async def test_only_failures_in_a_row_make_an_engine_dead(tmp_path: Path) -> None:
    folder = small_folder(tmp_path, tied=True)
    replica = ModelReplica(
        ModelSpec("m", str(folder), EngineConfig(max_model_len=32), sampler="transformers")
    )
    # No engine takes a prompt beyond its context: here it stands for whatever else may fail.
    failing = RenderedRequest((20,) * 40, Sampling(max_tokens=4))

    async def fail(times: int) -> None:
        for _ in range(times):
            with pytest.raises(BackendError, match="the model failed"):
                await anext(replica.stream(failing))

    await fail(2)
    whole = await anext(replica.stream(RenderedRequest((20,) * 8, Sampling(max_tokens=4, seed=1))))
    assert whole.finish_reason is not None
    await fail(2)
    replica.check()
    await fail(1)
    with pytest.raises(BackendError, match="does not answer any more"):
        replica.check()
