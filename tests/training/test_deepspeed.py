"""The DeepSpeed engine on one rank, without Ray: worker loop, bf16, gradient checkpointing, an adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mica_ray.lora.config import LoraConfig
from mica_ray.losses import LossConfig
from mica_ray.rollout.weights import WeightBucket, pack_weights, resolve
from mica_ray.training.learner_group import RayLearnerConfig, ZeroStage
from mica_ray.training.learner_state import LearnerState
from mica_ray.training.learner_worker import LearnerWorker
from mica_ray.training.local_learner import LocalLearner
from mica_ray.training.mailbox import Command, RestartPoint
from mica_ray.training.policy_folder import load_policy
from mica_ray.training.sharded.group_stepper import (
    KIND,
    GroupStepper,
    checkpoint_writer,
    group_stepper,
    restore_group,
)
from mica_ray.training.sharded.torch_ranks import TorchRanks
from mica_ray.training.update import LearnerConfig, batch_shares, run_update
from tests.tiny_policy import copied, random_batch, write_tiny_policy

pytestmark = pytest.mark.slow

ONE = TorchRanks(0, 1, torch.device("cpu"))
CONFIG = LearnerConfig(learning_rate=1e-3, total_updates=8, mini_batches=2, micro_batch_tokens=48)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


def run(
    stepper: GroupStepper, config: LearnerConfig, seeds: range, first_update: int = 0
) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for seed in seeds:
        (share,) = batch_shares(random_batch(seed), config, world_size=1)
        outcome = run_update(stepper, share, config=config, first_update=first_update, ranks=ONE)
        first_update += outcome.num_updates
        metrics = outcome.metrics
    return metrics


def stepper(policy: Path, config: LearnerConfig, zero_stage: ZeroStage, **group: Any) -> GroupStepper:
    # DeepSpeed allocates this buffer in every backward pass; the default size is for billions of weights.
    settings = {"reduce_bucket_elements": 1_000_000, **group}
    return group_stepper(policy, config, RayLearnerConfig(zero_stage=zero_stage, **settings), rank=0)


def first_moments(stepped: GroupStepper) -> dict[str, torch.Tensor]:
    """After the first step, 0.1 times the clipped gradient."""
    return {piece.name: piece.shard(stepped.optimizer).parts["exp_avg"] for piece in stepped.pieces()}


def writer(saved: GroupStepper, folder: Path, policy: Path, config: LearnerConfig) -> Callable[[], str]:
    state = LearnerState(KIND, version=2, updates=4, model=saved.fingerprint(), dtype=config.dtype)
    return checkpoint_writer(
        saved, folder, ranks=ONE, policy=policy, lora=config.lora, state=state, copies=True
    )


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("zero_stage", [0, 1, pytest.param(2, marks=pytest.mark.long), 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_engine_continues_bit_for_bit(
    policy: Path, tmp_path: Path, zero_stage: ZeroStage, dtype: str
) -> None:
    config = replace(CONFIG, dtype=dtype)
    straight, first, second = (stepper(policy, config, zero_stage) for _ in range(3))
    run(straight, config, range(4))
    run(first, config, range(2))
    write = writer(first, tmp_path, policy, config)
    run(first, config, range(7, 8))  # The copy does not change with the weights.
    assert write() == ""
    state = restore_group(second, tmp_path, ranks=ONE, config=config)
    assert (state.version, state.updates) == (2, 4)
    run(second, config, range(2, 4), first_update=4)
    expected, found = copied(straight.whole_model()), copied(second.whole_model())
    assert list(expected) == list(found)
    for name, tensor in expected.items():
        assert tensor.dtype == getattr(torch, dtype)
        assert torch.equal(tensor, found[name]), name


@pytest.mark.usefixtures("group")
def test_checkpoint_is_written_once(policy: Path, tmp_path: Path) -> None:
    import psutil

    saved, process = stepper(policy, CONFIG, 3), psutil.Process()
    run(saved, CONFIG, range(1))
    before = process.io_counters().write_chars
    assert writer(saved, tmp_path, policy, CONFIG)() == ""
    written = process.io_counters().write_chars - before
    kept = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    parameters = sum(tensor.numel() for _, tensor in saved.whole_model())
    assert 16 * parameters < kept <= written <= 1.05 * kept


@pytest.mark.usefixtures("group")
def test_bfloat16_engine_trains_the_weights_of_the_local_learner(policy: Path) -> None:
    config = replace(CONFIG, dtype="bfloat16", gradient_checkpointing=True)
    local = LocalLearner(policy, config)
    sharded = stepper(policy, config, 1)
    norm = run(sharded, config, range(1))["grad_norm"]
    assert norm == pytest.approx(local.update(random_batch(0)).metrics["grad_norm"], rel=1e-5)
    assert resolve(local.weights())[0].names == tuple(name for name, _ in sharded.whole_model())
    moved = np.concatenate([value.float().numpy().ravel() for _, value in sharded.whole_model()])
    assert np.isfinite(moved).all()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    ("zero_stage", "offload"),
    [(1, {}), (2, {}), (3, {}), (2, {"offload_optimizer": True}),
     (3, {"offload_optimizer": True, "offload_parameters": True})],
)  # fmt: skip
def test_bfloat16_gradients_of_many_micro_batches_are_summed_in_float32(
    policy: Path, zero_stage: ZeroStage, offload: dict[str, bool]
) -> None:
    # One row each; summed in bf16, 240 micro-batches lose more than 1 %.
    config = LearnerConfig(dtype="bfloat16", micro_batch_tokens=12)
    (share,) = batch_shares(random_batch(0, rows=240, length=12), config, world_size=1)
    assert len(share.mini_batches[0]) == 240
    local = group_stepper(policy, config, RayLearnerConfig(zero_stage=0), rank=0)
    sharded = stepper(policy, config, zero_stage, **offload)
    for trained in (local, sharded):
        run_update(trained, share, config=config, first_update=0, ranks=ONE)
    expected, found = first_moments(local), first_moments(sharded)
    assert expected.keys() == found.keys()
    for name, moment in expected.items():
        assert (moment - found[name]).norm() <= 1e-5 * moment.norm(), name


@pytest.mark.usefixtures("group")
def test_sharded_policy_has_the_dtypes_and_buffers_of_a_whole_one(policy: Path) -> None:
    # Rotary frequencies stay float32: in bfloat16 their error grows with the position.
    config = replace(CONFIG, dtype="bfloat16")
    whole = load_policy(policy, dtype="bfloat16", gradient_checkpointing=False)
    sharded = stepper(policy, config, 3).model
    assert sharded.config.to_dict() == whole.config.to_dict()
    assert [parameter.dtype for parameter in sharded.parameters()] == [torch.bfloat16] * 24
    expected, found = dict(whole.named_buffers()), dict(sharded.named_buffers())
    assert expected.keys() == found.keys()
    for name, buffer in expected.items():
        assert found[name].dtype == buffer.dtype == torch.float32
        assert torch.equal(found[name], buffer)


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
    engine = stepper(policy, config, zero_stage)
    found = run(engine, config, range(2))
    # The KL term shows that the reference is the base, the gradient that nothing frozen takes part. fp32.
    assert expected["kl"] > 1e-5
    for name in ("kl", "loss", "grad_norm"):
        assert found[name] == pytest.approx(expected[name], rel=1e-4), name
    bucket = pack_weights(engine.whole_model())
    assert bucket.names == resolve(local.weights())[0].names
    np.testing.assert_allclose(
        bucket.data.view(np.float32), resolve(local.weights())[0].data.view(np.float32), atol=1e-6
    )


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(("zero_stage", "dtype"), [(1, "float32"), (3, "bfloat16")])
def test_saved_adapter_continues_bit_for_bit(
    policy: Path, tmp_path: Path, zero_stage: ZeroStage, dtype: str
) -> None:
    config = replace(LORA, dtype=dtype)
    straight, first, second = (stepper(policy, config, zero_stage) for _ in range(3))
    run(straight, config, range(4))
    run(first, config, range(2))
    assert writer(first, tmp_path, policy, config)() == ""
    restore_group(second, tmp_path, ranks=ONE, config=config)
    run(second, config, range(2, 4), first_update=4)
    expected, found = copied(straight.trained()), copied(second.trained())
    assert len(expected) == 2 * 7 * 2  # A and B of seven layers in two blocks.
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    # 10,752 adapter weights in bf16 or fp32, three more copies in fp32; the model's 100,000 are left out.
    assert sum(sizes) < 400_000


class StoppingPost:
    """A post that keeps the weights of the start and stops the worker."""

    def __init__(self) -> None:
        self.buckets: list[WeightBucket] = []

    def restart(self) -> RestartPoint:
        return RestartPoint()

    def hold(self, bucket: WeightBucket) -> None:
        self.buckets.append(bucket)

    def ready(self, version: int) -> None:
        assert self.buckets

    def take(self, index: int) -> Command:
        return Command("stop")


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("push", ["adapter", "merged"])
def test_worker_pushes_the_adapter_or_the_merged_weights(policy: Path, tmp_path: Path, push: Any) -> None:
    config = replace(LORA, lora=LoraConfig(rank=4, push=push))
    post: Any = StoppingPost()
    group = RayLearnerConfig()
    LearnerWorker(post, policy, config, group, folder=tmp_path, rank=0, world_size=1).serve()
    ((bucket,), (expected,)) = post.buckets, resolve(LocalLearner(policy, config).weights())
    assert (bucket.names, bucket.lora_scale) == (expected.names, expected.lora_scale)
    np.testing.assert_array_equal(bucket.data, expected.data)
