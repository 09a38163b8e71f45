"""The DeepSpeed engine on one rank, without Ray: worker loop, bf16, gradient checkpointing, an adapter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from mica_ray.lora.config import LoraConfig
from mica_ray.losses import LossConfig
from mica_ray.rollout.weights import WeightBucket, pack_weights, resolve
from mica_ray.training.deepspeed import DeepSpeedStepper, TorchRanks, ZeroStage
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.learner_worker import LearnerWorker
from mica_ray.training.local_learner import LocalLearner
from mica_ray.training.mailbox import Command
from mica_ray.training.update import LearnerConfig, run_update
from tests.tiny_policy import random_batch, write_tiny_policy

pytestmark = pytest.mark.slow

CONFIG = LearnerConfig(learning_rate=1e-3, total_updates=8, mini_batches=2, micro_batch_tokens=48)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = dist.FileStore(  # pyright: ignore[reportPrivateImportUsage]
        str(tmp_path_factory.mktemp("group") / "store"), 1
    )
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LOCAL_RANK", "0")  # Ray Train sets it in its workers, and DeepSpeed reads it.
        yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


def run(
    stepper: DeepSpeedStepper, config: LearnerConfig, seeds: range, first_update: int = 0
) -> dict[str, float]:
    ranks = TorchRanks(0, 1, torch.device("cpu"))
    metrics: dict[str, float] = {}
    for seed in seeds:
        outcome = run_update(
            stepper, random_batch(seed), config=config, first_update=first_update, ranks=ranks
        )
        first_update += outcome.num_updates
        metrics = outcome.metrics
    return metrics


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("zero_stage", [0, 1, pytest.param(2, marks=pytest.mark.long), 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_engine_continues_bit_for_bit(
    policy: Path, tmp_path: Path, zero_stage: ZeroStage, dtype: str
) -> None:
    config = replace(CONFIG, dtype=dtype)
    straight, first, second = (
        DeepSpeedStepper(policy, config, zero_stage=zero_stage, world_size=1) for _ in range(3)
    )
    run(straight, config, range(4))
    run(first, config, range(2))
    first.save(tmp_path, rank=0, version=2, updates=4)
    state = second.restore(tmp_path)
    assert (state.version, state.updates) == (2, 4)
    run(second, config, range(2, 4), first_update=4)
    expected, found = straight.gather(keep=True), second.gather(keep=True)
    assert list(expected) == list(found)
    for name, tensor in expected.items():
        assert tensor.dtype == getattr(torch, dtype)
        assert torch.equal(tensor, found[name]), name


@pytest.mark.usefixtures("group")
def test_bfloat16_engine_stays_near_the_local_learner(policy: Path) -> None:
    # Both have fp32 masters, but round gradients to 8 bits at different places.
    config = replace(CONFIG, dtype="bfloat16", gradient_checkpointing=True)
    local = LocalLearner(policy, config)
    stepper = DeepSpeedStepper(policy, config, zero_stage=1, world_size=1)
    norm = run(stepper, config, range(1))["grad_norm"]
    assert norm == pytest.approx(local.update(random_batch(0)).metrics["grad_norm"], rel=0.02)
    assert resolve(local.weights()).names == tuple(stepper.gather(keep=True))
    moved = np.concatenate([value.float().numpy().ravel() for value in stepper.gather(keep=True).values()])
    assert np.isfinite(moved).all()


LORA = replace(
    CONFIG,
    learning_rate=1e-2,
    # Far above the gradient: AdamW would amplify the last bits of gradients near 0 to whole steps.
    adam_eps=1e-2,
    lora=LoraConfig(rank=4, push="merged"),
    loss=LossConfig(kl_coefficient=0.1),
)


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("zero_stage", [0, pytest.param(1, marks=pytest.mark.long), 2, 3])
def test_engine_trains_an_adapter_like_the_local_learner(policy: Path, zero_stage: ZeroStage) -> None:
    config = replace(LORA, gradient_checkpointing=zero_stage == 3)
    local = LocalLearner(policy, config)
    expected = [local.update(random_batch(seed)).metrics for seed in range(2)][-1]
    stepper = DeepSpeedStepper(policy, config, zero_stage=zero_stage, world_size=1)
    found = run(stepper, config, range(2))
    # The KL term shows that the reference is the base, the gradient that nothing frozen takes part. fp32.
    assert expected["kl"] > 1e-5
    for name in ("kl", "loss", "grad_norm"):
        assert found[name] == pytest.approx(expected[name], rel=1e-4), name
    bucket = pack_weights(stepper.gather(keep=True).items())
    assert bucket.names == resolve(local.weights()).names
    np.testing.assert_allclose(
        bucket.data.view(np.float32), resolve(local.weights()).data.view(np.float32), atol=1e-6
    )


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(("zero_stage", "dtype"), [(1, "float32"), (3, "bfloat16")])
def test_saved_adapter_continues_bit_for_bit(
    policy: Path, tmp_path: Path, zero_stage: ZeroStage, dtype: str
) -> None:
    config = replace(LORA, dtype=dtype)
    straight, first, second = (
        DeepSpeedStepper(policy, config, zero_stage=zero_stage, world_size=1) for _ in range(3)
    )
    run(straight, config, range(4))
    run(first, config, range(2))
    first.save(tmp_path, rank=0, version=2, updates=4)
    second.restore(tmp_path)
    run(second, config, range(2, 4), first_update=4)
    expected, found = straight.gather_trained(keep=True), second.gather_trained(keep=True)
    assert len(expected) == 2 * 7 * 2  # A and B of seven layers in two blocks.
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    # 10,752 adapter weights in bf16 or fp32, three more copies in fp32; the model's 100,000 are left out.
    assert sum(sizes) < 400_000


class StoppingPost:
    """A post that keeps the weights of the start and stops the worker."""

    def __init__(self) -> None:
        self.bucket: WeightBucket | None = None

    def checkpoint_folder(self) -> str:
        return ""

    def ready(self, version: int, bucket: WeightBucket | None) -> None:
        self.bucket = bucket

    def take(self, index: int) -> Command:
        return Command("stop")


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("push", ["adapter", "merged"])
def test_worker_pushes_the_adapter_or_the_merged_weights(policy: Path, push: Any) -> None:
    config = replace(LORA, lora=LoraConfig(rank=4, push=push))
    post: Any = StoppingPost()
    LearnerWorker(post, policy, config, RayLearnerConfig(), rank=0, world_size=1).serve()
    expected = resolve(LocalLearner(policy, config).weights())
    assert (post.bucket.names, post.bucket.lora_scale) == (expected.names, expected.lora_scale)
    np.testing.assert_array_equal(post.bucket.data, expected.data)
