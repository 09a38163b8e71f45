"""An engine counts as dead after several failures in a row, not after occasional ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.serving.http.backend import BackendError
from mica_ray.serving.model_prompt import RenderedRequest
from mica_ray.serving.model_replica import ModelReplica, ModelSpec
from mica_ray.types import Sampling
from tests.small_policy import small_folder


async def test_only_failures_in_a_row_make_an_engine_dead(tmp_path: Path) -> None:
    folder = small_folder(tmp_path, tied=True)
    replica = ModelReplica(
        ModelSpec("m", str(folder), EngineConfig(max_model_len=32), sampler="transformers")
    )
    # A prompt longer than the context fails in the engine, like any other engine error.
    failing = RenderedRequest((20,) * 40, Sampling(max_tokens=4))

    async def fail(times: int) -> None:
        for _ in range(times):
            with pytest.raises(BackendError, match="The model failed"):
                await anext(replica.stream(failing))

    await fail(2)
    whole = await anext(replica.stream(RenderedRequest((20,) * 8, Sampling(max_tokens=4, seed=1))))
    assert whole.finish_reason is not None
    assert not whole.begins_in_thought
    opened = RenderedRequest((20,) * 8, Sampling(max_tokens=4, seed=1), begins_in_thought=True)
    assert await anext(replica.stream(opened)) == replace(whole, begins_in_thought=True)
    await fail(2)
    replica.check()
    await fail(1)
    with pytest.raises(BackendError, match="failed 3 times in a row"):
        replica.check()
