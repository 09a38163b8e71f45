"""What the recipes say they need is what the plan of their memory says."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from mica_ray.config import RunConfig
from mica_ray.config.references import load_module_file
from mica_ray.launch.memory.machine import machine_memory
from mica_ray.launch.memory.model_shape import ModelShape
from mica_ray.launch.memory.processes import GIB
from mica_ray.launch.memory.room import MemoryPlan, plan_memory
from mica_ray.launch.plan import gpus_wanted
from tests.launch.memory.shapes import (
    model_of,
    qwen3_8b,
    qwen3_14b,
    qwen3_32b,
    qwen25_1_5b,
    qwen25_7b,
)

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
QWEN25, QWEN3, ONE_GPU = (
    load_module_file(EXPERIMENTS / f"{name}.py") for name in ("mica_qwen25_7b", "mica_qwen3", "one_gpu")
)
RUNS = [
    (QWEN25, QWEN25.CONFIG, qwen25_7b(), r"(\d+) GPUs of 80 GB \(at most (\d+) GiB each\)"),
    (QWEN3, QWEN3.qwen3_8b(), qwen3_8b(), r"(\d+) GPUs of 80 GB for 8B \(at most (\d+) GiB each\)"),
    (QWEN3, QWEN3.qwen3_14b(), qwen3_14b(), r"(\d+) GPUs of 80 GB for 8B .* and 14B \((\d+) GiB\)"),
    (QWEN3, QWEN3.qwen3_32b(), qwen3_32b(), r"(\d+) for 32B \((\d+) GiB\)"),
]
"""Recipe, one of its configs, its policy, and where "Needs" names the number of GPUs and the memory."""


def planned(config: RunConfig, shape: ModelShape) -> MemoryPlan:
    machine = machine_memory(gpu_gib=config.gpu_memory_gib, is_cluster=True)
    return plan_memory(config, model_of(shape), {}, inline=False, machine=machine)


@pytest.mark.parametrize(("recipe", "config", "shape", "words"), RUNS, ids=["7B", "8B", "14B", "32B"])
def test_needs_agree_with_the_plan(recipe: object, config: RunConfig, shape: ModelShape, words: str) -> None:
    plan = planned(config, shape)
    assert plan.crowded == ""
    stated = re.search(words, " ".join((recipe.__doc__ or "").split()))
    assert stated is not None
    needed = plan.gpu_bytes
    gpus, gibs = (int(part) for part in stated.groups())
    assert gpus == gpus_wanted(config)
    # "At most": the plan, or up to 7 % more, so that not every refinement of a formula changes a recipe.
    assert needed / GIB <= gibs <= 1.07 * needed / GIB


@pytest.mark.parametrize(
    ("config", "shape", "words"),
    [
        (ONE_GPU.CONFIG, qwen25_7b(), r"(\d+) GPU of 80 GB for 7B \(at most (\d+) GiB\)"),
        (ONE_GPU.small(), qwen25_1_5b(), r"(\d+) of 24 GB for 1.5B \(at most (\d+) GiB\)"),
    ],
    ids=["7B", "1.5B"],
)
def test_needs_of_a_shared_gpu_agree_with_the_plan(config: RunConfig, shape: ModelShape, words: str) -> None:
    plan = planned(config, shape)
    assert plan.crowded == ""
    stated = re.search(words, " ".join((ONE_GPU.__doc__ or "").split()))
    assert stated is not None
    needed = plan.gpu_bytes
    assert [int(part) for part in stated.groups()] == [gpus_wanted(config), math.ceil(needed / GIB)]


def test_14b_on_four_workers_would_not_fit() -> None:
    config = QWEN3._run("14B", max_turns=30, num_engines=2, tensor_parallel=2, num_workers=4)
    assert re.match(r"The learner worker needs 8\d\.\d GiB per GPU", planned(config, qwen3_14b()).crowded)
