"""An engine that shares its GPU sleeps during updates; the next weights wake it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from mica_ray.rollout.engine import EngineError, SleepingEngine
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.rollout.engine_pool import EnginePool
from mica_ray.rollout.vllm_backends import SleepingPart
from mica_ray.rollout.vllm_engine import VllmEngine
from mica_ray.rollout.weights import TransferStep, WeightBucket, pack_weights
from mica_ray.types import PolicyWeights, Sampling


class NotingBackend:
    """A `VllmBackend` without vLLM: notes its calls, and ends a reply when told."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def generate(self, prompt_ids: Sequence[int], params: Any) -> Any:
        await self.may_end.wait()
        self.calls.append("reply")
        token = SimpleNamespace(logprob=-1.0)
        completion = SimpleNamespace(token_ids=[5], logprobs=[{5: token}], text="a", finish_reason="length")
        return SimpleNamespace(outputs=[completion], prompt_token_ids=prompt_ids)

    async def stream(
        self, prompt_ids: Sequence[int], params: Any, adapter: str = ""
    ) -> AsyncGenerator[Any, None]:
        yield await self.generate(prompt_ids, params)

    async def load(self, buckets: Sequence[WeightBucket]) -> None:
        self.calls.append("load")

    async def sleep(self, level: int) -> None:
        self.calls.append(("sleep", level))

    async def wake(self, part: SleepingPart) -> None:
        self.calls.append(("wake", part))

    async def transfer(self, step: TransferStep, payload: Mapping[str, object] | None) -> None:
        raise NotImplementedError

    async def close(self) -> None: ...


def engine(backend: NotingBackend, level: int = 2) -> VllmEngine:
    config = EngineConfig(gpus_per_engine=0.5, sleep_level=level)  # pyright: ignore[reportArgumentType]
    return VllmEngine("policy", (1,), config, backend=backend)


def weights(version: int) -> PolicyWeights:
    import torch

    return PolicyWeights(version, pack_weights([("w", torch.zeros(1))]))


async def test_weights_wake_first_and_the_cache_after_the_load() -> None:
    backend = NotingBackend()
    sleeper = engine(backend)
    await sleeper.load_weights(weights(0))
    await sleeper.generate([3], Sampling())
    await sleeper.sleep()
    await sleeper.sleep()  # Once is enough.
    await sleeper.load_weights(weights(1))
    await sleeper.generate([3], Sampling())
    assert backend.calls == [
        "load", "reply", ("sleep", 2), ("wake", "weights"), "load", ("wake", "kv_cache"), "reply",
    ]  # fmt: skip


async def test_an_engine_asleep_refuses_replies_and_loads_even_a_version_that_it_had() -> None:
    backend = NotingBackend()
    sleeper = engine(backend, level=1)
    await sleeper.load_weights(weights(4))
    await sleeper.sleep()
    with pytest.raises(EngineError, match=r"sleeps\. Load weights first"):
        await sleeper.generate([3], Sampling())
    assert await sleeper.load_weights(weights(4)) == 4
    assert backend.calls[1:] == [("sleep", 1), ("wake", "weights"), "load", ("wake", "kv_cache")]


async def test_an_engine_sleeps_only_after_the_replies_in_flight() -> None:
    backend = NotingBackend()
    sleeper = engine(backend)
    backend.may_end.clear()
    reply = asyncio.create_task(sleeper.generate([3], Sampling()))
    await asyncio.sleep(0)
    falling_asleep = asyncio.create_task(sleeper.sleep())
    await asyncio.sleep(0.01)
    assert backend.calls == []
    backend.may_end.set()
    await asyncio.gather(reply, falling_asleep)
    assert backend.calls == ["reply", ("sleep", 2)]


async def test_an_engine_with_a_gpu_of_its_own_stays_awake() -> None:
    backend = NotingBackend()
    await engine(backend, level=0).sleep()
    assert backend.calls == []
    assert issubclass(EnginePool, SleepingEngine)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sleep_level": 1}, "needs a GPU"),
        ({"sleep_level": 3, "gpus_per_engine": 1.0}, "sleep_level must be 0, 1 or 2, got 3"),
        ({"sleep_level": 2, "gpus_per_engine": 1.0, "weight_transfer": "nccl"}, "weight_transfer=bucket"),
    ],
)
def test_impossible_sleep_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EngineConfig(**settings)


def test_an_engine_on_a_part_of_a_gpu_asks_for_that_part_of_its_memory() -> None:
    assert EngineConfig(gpus_per_engine=0.4).memory_share == 0.4
    assert EngineConfig(gpus_per_engine=1.0).memory_share is None
    assert EngineConfig().memory_share is None
