"""The pool over engines that are real Ray actors and report what happens to them. No vLLM."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import numpy as np
import pytest

from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.engine_blueprint import EngineBlueprint
from mica_ray.rollout.engine_pool import EnginePool, PoolConfig
from mica_ray.rollout.weights import WeightBucket, pack_weights, publish, resolve, unpack_weights
from mica_ray.types import Generation, PolicyWeights, Sampling

pytestmark = [pytest.mark.ray]


class TellingEngine:
    """Replies with its process id and its one weight; some prompts make it wait, raise or die."""

    def __init__(self, fails_to_start: bool = False) -> None:
        if fails_to_start:
            raise EngineError("no such model")
        self._version = -1
        self._weight = 0.0
        self._num_loads = 0

    async def version(self) -> int:
        return self._version

    async def generate(self, prompt_ids: Sequence[int], sampling: Sampling) -> Generation:
        match list(prompt_ids):
            case [13, *_]:
                raise EngineError("prompt of 13 is unlucky")
            case [14, *_]:
                raise KeyError("fourteen")
            case [99, *_]:
                os._exit(1)
            case [seconds, *_]:
                await asyncio.sleep(seconds)
        text = f"{os.getpid()} {self._weight} {self._num_loads} {os.environ.get('TELLING')}"
        return Generation(tuple(prompt_ids), (1,), (0.0,), text, "stop", self._version)

    async def load_weights(self, weights: PolicyWeights) -> int:
        if weights.version != self._version:
            buckets = await asyncio.to_thread(resolve, weights)
            self._weight = dict(unpack_weights(*buckets))["w"].item()
            self._version = weights.version
            self._num_loads += 1
        return self._version

    async def close(self) -> None: ...


BLUEPRINT = EngineBlueprint(TellingEngine, num_cpus=0.5, environment={"TELLING": "yes"})


def weight(value: float) -> WeightBucket:
    import torch

    return pack_weights([("w", torch.tensor(value))])


async def process_of(engine: EnginePool, key: int) -> str:
    return (await engine.route(key).generate([0], Sampling())).text.split()[0]


@pytest.fixture
async def pool(ray_cluster: None):
    pool = await EnginePool.start(
        BLUEPRINT, num_engines=2, config=PoolConfig(max_replacements=2, generate_deadline_seconds=20)
    )
    yield pool
    await pool.close()


async def test_equal_keys_meet_equal_engines_and_others_spread(pool: EnginePool) -> None:
    processes = [await process_of(pool, key) for key in (0, 1, 2, 3, 0)]
    assert processes[0] == processes[2] == processes[4] != processes[1] == processes[3]


async def test_unrouted_requests_go_where_least_is_done(pool: EnginePool) -> None:
    replies = await asyncio.gather(*(pool.generate([1], Sampling()) for _ in range(4)))
    processes = [reply.text.split()[0] for reply in replies]
    assert sorted(processes.count(process) for process in set(processes)) == [2, 2]


async def test_environment_of_the_blueprint_reaches_the_engine(pool: EnginePool) -> None:
    assert (await pool.generate([0], Sampling())).text.endswith("yes")


async def test_weights_reach_every_engine_once(pool: EnginePool) -> None:
    for weights in (publish(weight(1.5), 0), PolicyWeights(0, weight(2.5)), publish(weight(3.5), 1)):
        await pool.load_weights(weights)
    for key in (0, 1):
        reply = await pool.route(key).generate([0], Sampling())
        # Versions 0 and 1 were loaded; the second version 0 was not.
        assert (reply.text.split()[1:3], reply.policy_version) == (["3.5", "2"], 1)


async def test_killed_engine_is_replaced_with_the_current_weights(pool: EnginePool) -> None:
    import ray

    await pool.load_weights(publish(weight(4.0), 5))
    before = [await process_of(pool, key) for key in (0, 1)]
    # The killed engine is generating six replies; each is requested again.
    waiting = [asyncio.create_task(pool.route(0).generate([2], Sampling())) for _ in range(6)]
    await asyncio.sleep(0.5)
    ray.kill(pool.actors[0])
    replies = await asyncio.wait_for(asyncio.gather(*waiting), 60)
    assert {(reply.text.split()[1], reply.policy_version) for reply in replies} == {("4.0", 5)}
    assert before[0] not in {reply.text.split()[0] for reply in replies}
    assert await process_of(pool, 1) == before[1]
    assert pool.num_replacements == 1


async def test_engine_killed_before_a_push_gets_the_pushed_weights(pool: EnginePool) -> None:
    import ray

    await pool.load_weights(publish(weight(1.0), 0))
    ray.kill(pool.actors[1])
    await pool.load_weights(publish(weight(2.0), 1))
    reply = await pool.route(1).generate([0], Sampling())
    assert (reply.text.split()[1], reply.policy_version) == ("2.0", 1)


async def test_call_that_kills_every_engine_ends_in_an_error(pool: EnginePool) -> None:
    with pytest.raises(EngineError, match="Engine 0 died twice on the same call"):
        await pool.route(0).generate([99], Sampling())
    # The next call replaces the dead engine, for the last time allowed.
    assert (await pool.route(0).generate([0], Sampling())).policy_version == -1
    with pytest.raises(EngineError, match="after 2 engines had been replaced"):
        await pool.route(0).generate([99], Sampling())


@pytest.mark.parametrize(
    ("prompt", "message"),
    [([13], "^prompt of 13 is unlucky$"), ([14], "A reply of engine 0 failed: KeyError: 'fourteen'")],
)
async def test_engine_errors_come_through_in_one_line(
    pool: EnginePool, prompt: list[int], message: str
) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        await pool.route(0).generate(prompt, Sampling())
    assert "\n" not in str(caught.value)


async def test_late_reply_is_an_error_and_the_engine_lives(ray_cluster: None) -> None:
    pool = await EnginePool.start(BLUEPRINT, config=PoolConfig(generate_deadline_seconds=0.5))
    try:
        with pytest.raises(
            EngineError,
            match=r"A reply of engine 0 timed out after 0\.5 s.*raise rollout\.generate_deadline_seconds",
        ):
            await pool.generate([12], Sampling())
        assert (await pool.generate([0], Sampling())).policy_version == -1
    finally:
        await pool.close()


async def test_engine_that_cannot_start_says_why(ray_cluster: None) -> None:
    with pytest.raises(EngineError, match=r"Engine 0 did not start \(.*no such model\)\. Check its log\."):
        await EnginePool.start(EngineBlueprint(TellingEngine, (True,), num_cpus=0.5))


async def test_more_than_the_cluster_has_is_refused_at_once(ray_cluster: None) -> None:
    with pytest.raises(
        EngineError, match=r"2 engines with 1 GPU each need 2 GPU, the cluster has 0\. Lower num_engines"
    ):
        await EnginePool.start(EngineBlueprint(TellingEngine, num_gpus=1), num_engines=2)


async def test_bucket_is_read_from_the_object_store_without_a_copy(ray_cluster: None) -> None:
    weights = publish(WeightBucket(("w",), ((1 << 18,),), ("float32",), np.zeros(1 << 20, np.uint8)), 3)
    (bucket,) = resolve(weights)
    assert not bucket.data.flags.writeable  # Memory of the object store.
    assert resolve(weights)[0].data.ctypes.data == bucket.data.ctypes.data


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_inflight": 0}, r"max_inflight must be in \[1, 1024\], got 0"),
        ({"max_replacements": -1}, "max_replacements must be >= 0, got -1"),
        ({"load_deadline_seconds": 0}, "load_deadline_seconds must be > 0, got 0"),
    ],
)
def test_impossible_bounds_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PoolConfig(**settings)
