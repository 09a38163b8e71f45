"""An engine counts as dead after several failures in a row, not after occasional ones or refused requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mica_ray.chat.model import ChatError
from mica_ray.rollout.engine import EngineError, GeneratedChunk, RequestRefused
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.serving.http.backend import BackendError
from mica_ray.serving.model_prompt import RenderedRequest
from mica_ray.serving.model_replica import ModelReplica, ModelSpec
from mica_ray.types import Generation, ReplyOptions, Sampling
from tests.small_policy import small_folder

REQUEST = RenderedRequest((20,) * 8, Sampling(max_tokens=4, seed=1))


@dataclass
class ScriptedEngine:
    """Raises the errors in order, then replies."""

    errors: list[Exception] = field(default_factory=list[Exception])

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        if self.errors:
            raise self.errors.pop(0)
        return Generation(
            prompt_ids=tuple(prompt_ids),
            token_ids=(21,),
            logprobs=(-1.0,),
            text="Yes.",
            finish_reason="stop",
            policy_version=0,
        )

    async def stream(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        chunk_seconds: float | None,
        options: ReplyOptions | None = None,
    ) -> AsyncGenerator[GeneratedChunk, None]:
        reply = await self.generate(prompt_ids, sampling)
        yield GeneratedChunk(reply.text, len(reply.token_ids), "stop")


def replica_of(folder: Path, engine: ScriptedEngine) -> ModelReplica:
    spec = ModelSpec("m", str(folder), EngineConfig(max_model_len=1024), sampler="transformers")
    return ModelReplica(spec, engine)


async def fails(replica: ModelReplica, times: int) -> None:
    for _ in range(times):
        with pytest.raises(BackendError, match="The model failed") as caught:
            await anext(replica.stream(REQUEST))
        assert caught.value.kind == "unavailable"


async def test_only_failures_in_a_row_make_an_engine_dead(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    replica = replica_of(small_folder(tmp_path, tied=True), engine)
    engine.errors = [EngineError("died")] * 2
    await fails(replica, 2)
    whole = await anext(replica.stream(REQUEST))
    assert (whole.text, whole.finish_reason, whole.begins_in_thought) == ("Yes.", "stop", False)
    opened = replace(REQUEST, begins_in_thought=True)
    assert await anext(replica.stream(opened)) == replace(whole, begins_in_thought=True)
    engine.errors = [EngineError("died")] * 3
    await fails(replica, 2)
    replica.check()
    await fails(replica, 1)
    with pytest.raises(BackendError, match="failed 3 times in a row"):
        replica.check()


REFUSALS = [
    RequestRefused("vLLM rejected the request: stop"),
    ValueError("stop"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    TypeError("logit_bias"),
    OverflowError("int too big to convert"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
async def test_a_request_that_the_engine_refuses_is_no_failure(tmp_path: Path, refusal: Exception) -> None:
    engine = ScriptedEngine([refusal] * 3)
    replica = replica_of(small_folder(tmp_path, tied=True), engine)
    for _ in range(3):
        with pytest.raises(BackendError, match="cannot serve this request") as caught:
            await anext(replica.stream(REQUEST))
        assert caught.value.kind == "refused"
    replica.check()
    assert (await anext(replica.stream(REQUEST))).text == "Yes."


async def test_a_role_that_is_refused_is_no_failure_either(tmp_path: Path) -> None:
    engine = ScriptedEngine([RequestRefused("no")] * 3)
    replica = replica_of(small_folder(tmp_path, tied=True), engine)
    for _ in range(3):
        with pytest.raises(ChatError, match="the engine refuses") as caught:
            await replica.chat([{"role": "user", "content": "hello"}], Sampling(max_tokens=4), None)
        assert caught.value.kind == "refused"
    replica.check()


async def test_a_prompt_that_fills_the_context_is_refused_by_a_real_engine(tmp_path: Path) -> None:
    folder = small_folder(tmp_path, tied=True)
    replica = ModelReplica(
        ModelSpec("m", str(folder), EngineConfig(max_model_len=32), sampler="transformers")
    )
    with pytest.raises(BackendError) as caught:
        await anext(replica.stream(replace(REQUEST, prompt_ids=(20,) * 32)))
    assert caught.value.kind == "refused"
    assert (await anext(replica.stream(REQUEST))).finish_reason is not None
