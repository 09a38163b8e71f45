"""Shared by all tests: one thread, fixed seeds, one Ray per session, reasons for skips."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

# Set before torch, Ray or vLLM is imported, since each reads its settings once. One thread is fastest here.
os.environ["OMP_NUM_THREADS"] = "1"
for name, setting in {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "auto",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}.items():
    os.environ.setdefault(name, setting)

ROOT = Path(__file__).parents[1]


@cache
def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not has_cuda():
        pytest.skip("no CUDA device on this machine")


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    random.seed(0)
    np.random.seed(0)  # for third parties that use the global generator
    # Tests of the lowest layer must not pay for importing torch.
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Start a local Ray of four logical CPUs. Its start counts against the timeout of the first test."""
    import ray

    # "local" ignores the address that an earlier head left behind.
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """Return the folder of the public benchmarks, which are not part of the repository."""
    folder = Path(os.environ.get("MICA_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no benchmark data in {folder}; set MICA_DATA to their folder")
    return folder
