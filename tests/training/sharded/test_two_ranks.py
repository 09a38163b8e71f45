"""Two ranks that shard everything train the weights of the in-process learner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mica_ray.losses import LossConfig
from mica_ray.training.learner_group import RayLearnerConfig
from mica_ray.training.sharded.group_stepper import group_stepper
from mica_ray.training.sharded.torch_ranks import TorchRanks
from mica_ray.training.stepper import OneRank
from mica_ray.training.update import LearnerConfig, batch_shares, run_update
from tests.tiny_policy import copied, random_batch, write_tiny_policy
from tests.training.sharded.two_ranks import run_on_two_ranks

pytestmark = pytest.mark.slow

# Three optimizer steps: with one, the KL term would be 0. The decay alone moves a weight of 0.02 by 6e-5.
CONFIG = LearnerConfig(
    learning_rate=1e-4,
    weight_decay=10.0,
    warmup_fraction=0.0,
    mini_batches=3,
    micro_batch_tokens=48,
    loss=LossConfig(kl_coefficient=0.5),
)
GROUP = RayLearnerConfig(num_workers=2, zero_stage=3)


def number_held(model: Any) -> int:
    """Count the elements of this rank's shards."""
    return sum(parameter.ds_tensor.numel() for parameter in model.parameters())


def train(ranks: TorchRanks, folder: Path) -> None:
    """Record the weights before and after an update, and what a rank holds of policy and reference."""
    sharded = group_stepper(folder / "policy", CONFIG, GROUP, rank=ranks.rank)
    before = copied(sharded.whole_model())
    share = batch_shares(random_batch(0), CONFIG, world_size=2)[ranks.rank]
    metrics = run_update(sharded, share, config=CONFIG, first_update=0, ranks=ranks).metrics
    after = copied(sharded.whole_model())
    reference = sharded._reference  # pyright: ignore[reportAttributeAccessIssue]
    held = [number_held(sharded.model), number_held(reference.module)]
    torch.save((before, after, metrics, held), folder / f"rank-{ranks.rank}.pt")


@pytest.mark.timeout(240)
def test_policy_and_reference_are_loaded_in_shards_and_train_like_whole_ones(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    write_tiny_policy(tmp_path / "policy")
    run_on_two_ranks(train, tmp_path)
    before, after, metrics, held = torch.load(tmp_path / "rank-0.pt")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "policy", dtype=torch.float32)
    loaded = {name: parameter.detach() for name, parameter in model.named_parameters()}
    assert before.keys() == loaded.keys()
    assert all(torch.equal(before[name], loaded[name]) for name in loaded)
    # Every parameter of the tiny policy has an even number of elements.
    whole = sum(parameter.numel() for parameter in loaded.values())
    assert held == [whole / 2, whole / 2]

    local = group_stepper(tmp_path / "policy", CONFIG, replace(GROUP, num_workers=1, zero_stage=0), rank=0)
    (share,) = batch_shares(random_batch(0), CONFIG, world_size=1)
    expected = run_update(local, share, config=CONFIG, first_update=0, ranks=OneRank()).metrics
    assert metrics["kl"] == pytest.approx(expected["kl"], rel=1e-2)
    assert metrics["kl"] > 0
    for name, tensor in local.whole_model():
        assert (tensor - after[name]).abs().max() < 1e-5, name
