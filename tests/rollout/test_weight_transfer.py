"""vLLM's weight transfer from a real learner to real engines, over gloo instead of NCCL."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from mica_ray.rollout.chat_template import ChatTemplate
from mica_ray.rollout.engine import EngineError
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.rollout.engine_pool import EnginePool
from mica_ray.rollout.vllm_engine import vllm_blueprint
from mica_ray.rollout.weights import TransferRoute, TransferSession, WeightBucket, pack_weights
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.update import LearnerConfig
from mica_ray.types import Generation, PolicyWeights, Sampling
from tests.small_policy import reference_logprobs, small_folder, small_model

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

ROUTE = TransferRoute("gloo", workers_per_engine=1)
CONFIG = EngineConfig(max_model_len=256, kv_cache_gib=0.25, weight_transfer="gloo")
PROMPTS = [list(range(20, 40)), [100, 50, 60] * 15]


class RankZero:
    """The sending part of a learner's rank 0: an actor with a broadcaster."""

    def __init__(self) -> None:
        from mica_ray.rollout.weight_transfer import WeightBroadcaster

        self._broadcaster = WeightBroadcaster()

    def send(self, bucket: WeightBucket, session: TransferSession) -> None:
        self._broadcaster.send([bucket], session)


@dataclass(frozen=True, slots=True)
class Sender:
    """`WeightSender` over that actor."""

    rank_zero: ActorHandle
    bucket: WeightBucket

    async def send(self, engines: tuple[ActorHandle, ...], deadline_seconds: float) -> None:
        session = TransferSession(ROUTE, engines, deadline_seconds)
        await cast("ObjectRef[None]", self.rank_zero.send.remote(self.bucket, session))


async def replies_of(pool: EnginePool) -> list[Generation]:
    """Generate for both prompts on each of two engines."""
    return list(
        await asyncio.gather(
            *(
                pool.route(key).generate(prompt, Sampling(max_tokens=12, seed=key))
                for key, prompt in enumerate([*PROMPTS, *reversed(PROMPTS)])
            )
        )
    )


async def largest_difference(pool: EnginePool, seed: int) -> float:
    """Return the largest logprob difference of the engines to a forward pass, nats."""
    model = small_model(tied=False, seed=seed)
    return max(
        abs(reported - true)
        for reply in await replies_of(pool)
        for reported, true in zip(
            reply.logprobs, reference_logprobs(model, reply.prompt_ids, reply.token_ids), strict=True
        )
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
async def test_engines_sample_from_the_weights_that_were_sent(tmp_path: Path) -> None:
    import ray

    folder = small_folder(tmp_path, tied=False)
    rank_zero = cast("ActorHandle", ray.remote(RankZero).options(num_cpus=0).remote())
    pool = await EnginePool.start(
        vllm_blueprint(folder, ChatTemplate.from_folder(folder).stop_ids, CONFIG), num_engines=2
    )

    async def push(version: int, seed: int) -> None:
        bucket = pack_weights(small_model(tied=False, seed=seed).named_parameters())
        await pool.load_weights(PolicyWeights(version, Sender(rank_zero, bucket)))

    try:
        for version, seed in enumerate((1, 2)):
            await push(version, seed)
            assert await largest_difference(pool, seed) < 1e-4
        assert {reply.policy_version for reply in await replies_of(pool)} == {1}
        # A dead engine is replaced and receives the same weights; then both form one group again.
        ray.kill(pool.actors[0])
        assert await largest_difference(pool, 2) < 1e-4
        assert pool.num_replacements == 1
        await push(2, 3)
        assert await largest_difference(pool, 3) < 1e-4

        other = pack_weights(small_model(tied=False, seed=4).named_parameters())
        cut = replace(other, names=tuple(name.replace("layers.1.", "layers.7.") for name in other.names))
        with pytest.raises(EngineError, match="belong to another model"):
            await pool.load_weights(PolicyWeights(3, Sender(rank_zero, cut)))
    finally:
        await pool.close()
        ray.kill(rank_zero)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_cluster")
async def test_learner_group_sends_its_weights_itself(tmp_path: Path) -> None:
    from mica_ray.training.ray_learner import RayLearner

    folder = small_folder(tmp_path / "policy", tied=True)
    learner = RayLearner(
        folder, LearnerConfig(total_updates=4), RayLearnerConfig(), folder=tmp_path / "group", route=ROUTE
    )
    pool = await EnginePool.start(
        vllm_blueprint(folder, ChatTemplate.from_folder(folder).stop_ids, CONFIG), num_engines=1
    )
    try:
        weights = await asyncio.to_thread(learner.weights)
        assert not isinstance(weights.source, WeightBucket)
        await pool.load_weights(weights)
        replies = await replies_of(pool)
        model = small_model(tied=True, seed=0)
        for reply in replies:
            true = reference_logprobs(model, reply.prompt_ids, reply.token_ids)
            assert reply.logprobs == pytest.approx(true, abs=1e-4)
    finally:
        await pool.close()
        await asyncio.to_thread(learner.close)
