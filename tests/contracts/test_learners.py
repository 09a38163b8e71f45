"""Both learners do the same.

Same batches, same weights. The worker groups run one after the other on one Ray.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mica_ray.rollout.weights import resolve, unpack_weights
from mica_ray.training.learner import Learner, LearnerError
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.local_learner import LocalLearner
from mica_ray.training.update import LearnerConfig
from tests.tiny_policy import random_batch, write_tiny_policy

# Two rows per micro-batch: with two ranks some ranks run an empty one to stay in step.
CONFIG = LearnerConfig(learning_rate=1e-4, total_updates=8, mini_batches=2, micro_batch_tokens=48)
GROUP = RayLearnerConfig(
    num_workers=2, cpus_per_worker=1, start_seconds=200, update_seconds=200, checkpoint_every=2
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


@contextmanager
def ray_learner(
    policy: Path, config: LearnerConfig, group: RayLearnerConfig, folder: Path
) -> Iterator[Learner]:
    from mica_ray.training.ray_learner import RayLearner

    learner = RayLearner(policy, config, group, folder=folder)
    try:
        yield learner
    finally:
        learner.close()


def weights_of(learner: Learner) -> dict[str, np.ndarray]:
    return {
        name: tensor.float().numpy().copy() for name, tensor in unpack_weights(*resolve(learner.weights()))
    }


def largest_difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    assert list(a) == list(b)
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


def after_updates(policy: Path, config: LearnerConfig, num_updates: int = 4) -> dict[str, np.ndarray]:
    learner = LocalLearner(policy, config)
    for seed in range(num_updates):
        learner.update(random_batch(seed, rows=7, step=seed))
    return weights_of(learner)


def test_versions_count_the_updates_of_the_local_learner(policy: Path) -> None:
    learner = LocalLearner(policy, CONFIG)
    assert learner.weights().version == 0
    assert [learner.update(random_batch(seed)).version for seed in range(2)] == [1, 2]
    assert learner.weights().version == 2


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("zero_stage", [1, pytest.param(2, marks=pytest.mark.long), 3])
def test_worker_group_agrees_with_the_local_learner(policy: Path, tmp_path: Path, zero_stage: int) -> None:
    local = LocalLearner(policy, CONFIG)
    with ray_learner(policy, CONFIG, replace(GROUP, zero_stage=zero_stage), tmp_path / "group") as learner:
        assert largest_difference(weights_of(learner), weights_of(local)) == 0
        for seed in range(4):
            batch = random_batch(seed, rows=7, step=seed)
            ours, theirs = local.update(batch), learner.update(batch)
            assert ours.version == theirs.version == seed + 1
            for name, value in ours.metrics.items():
                # Sums over ranks have another order than sums over rows.
                assert theirs.metrics[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
        assert largest_difference(weights_of(learner), weights_of(local)) < 1e-5


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_cluster")
def test_killed_worker_loses_no_update(policy: Path, tmp_path: Path) -> None:
    # checkpoint_every=2: after update 3 the group restarts from version 2 and gets batch 2 again.
    group = replace(GROUP, zero_stage=0)
    with ray_learner(policy, CONFIG, group, tmp_path / "group") as learner:
        for seed in range(3):
            learner.update(random_batch(seed, rows=7, step=seed))
        os.kill(_worker_pids()[0], signal.SIGKILL)
        report = learner.update(random_batch(3, rows=7, step=3))
        assert report.version == 4
        assert report.metrics["worker_restarts"] == 1
        assert largest_difference(weights_of(learner), after_updates(policy, CONFIG)) < 1e-5


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_cluster")
def test_checkpoint_is_written_once_and_continues_in_groups_of_other_sizes(
    policy: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    saved, folder = tmp_path / "saved", tmp_path / "group"
    group = replace(GROUP, zero_stage=3, checkpoint_every=20, background_checkpoints=True)
    with ray_learner(policy, CONFIG, group, folder) as learner:
        for seed in range(2):
            learner.update(random_batch(seed, rows=7, step=seed))
        copied: list[bool] = []
        learner.save(saved, copied=lambda: copied.append(saved.is_dir()))
        assert len(copied) == 1
        assert len(list(saved.glob("engine/rank-*-of-00002.safetensors"))) == 2
        assert not list(folder.rglob("*.safetensors"))  # Neither in Ray Train's storage nor as its own.
        named = weights_of(learner)
        learner.update(random_batch(9, rows=7, step=2))  # forgotten by the restore
        learner.restore(saved)
        assert learner.weights().version == 2
        assert largest_difference(weights_of(learner), named) == 0
        for seed in range(2, 4):
            report = learner.update(random_batch(seed, rows=7, step=seed))
        assert report.version == 4
        assert largest_difference(weights_of(learner), after_updates(policy, CONFIG)) < 1e-5
    model = AutoModelForCausalLM.from_pretrained(saved / "policy", dtype=torch.float32)
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(parameter.detach().numpy(), named[name])

    smaller = replace(GROUP, num_workers=1, zero_stage=1)
    with ray_learner(policy, CONFIG, smaller, folder) as learner:
        learner.restore(saved)
        assert largest_difference(weights_of(learner), named) == 0
        assert learner.update(random_batch(2, rows=7, step=2)).version == 3
        assert largest_difference(weights_of(learner), after_updates(policy, CONFIG, 3)) < 1e-5


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_cluster")
def test_error_of_a_worker_reaches_the_driver_in_its_own_words(tmp_path: Path) -> None:
    group = replace(GROUP, num_workers=1)
    with (
        ray_learner(tmp_path / "nowhere", CONFIG, group, tmp_path / "group") as learner,
        pytest.raises(LearnerError, match=r"Policy folder .*nowhere has no config\.json"),
    ):
        learner.weights()


def _worker_pids() -> list[int]:
    """Return the training workers below this process; Ray writes the actor's class into its command line."""
    import psutil

    found = [
        process.pid
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and "RayTrainWorker" in " ".join(process.cmdline())
    ]
    assert found, "no training worker is alive"
    return sorted(found)
