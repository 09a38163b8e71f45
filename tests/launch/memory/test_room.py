"""What does not fit is refused with the setting that makes it fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import override
from mica_ray.launch.memory.lines import memory_lines
from mica_ray.launch.memory.machine import MachineMemory, host_memory, machine_memory
from mica_ray.launch.memory.processes import GIB, Model
from mica_ray.launch.memory.room import MemoryPlan, check_room, fitting_settings, plan_memory
from mica_ray.launch.preflight import check_run
from tests.launch.memory.shapes import model_of, qwen3_8b, qwen25_7b

GPUS = [
    "learner.dtype=bfloat16", "learner.loss.kl_coefficient=0", "ray_learner.gpus_per_worker=1",
    "engine.gpus_per_engine=1", "engine.dtype=bfloat16", "rollout.context_length=25000",
    "engine.max_model_len=25000", "learner.micro_batch_tokens=25000",
]  # fmt: skip


class Planner:
    """Plans configs for one model and machine."""

    def __init__(self, model: Model, machine: MachineMemory) -> None:
        self.model, self.machine = model, machine

    def __call__(self, config: RunConfig) -> MemoryPlan:
        return plan_memory(config, self.model, {}, inline=False, machine=self.machine)


def test_run_that_fits_exactly_is_accepted_and_one_byte_less_is_not() -> None:
    config, model = RunConfig(), Model(parameters=10**6)
    needed = Planner(model, MachineMemory())(config).host_bytes
    assert check_room(config, Planner(model, MachineMemory(host=(needed + 1) / 0.95))).crowded == ""
    with pytest.raises(ConfigError, match=r"of which Ray allows 95%"):
        check_room(config, Planner(model, MachineMemory(host=(needed - 1) / 0.95)))


def test_unknown_memory_is_not_refused() -> None:
    config = override(RunConfig(), GPUS)
    assert Planner(model_of(qwen3_8b()), MachineMemory())(config).crowded == ""


def test_long_row_of_a_7b_model_needs_checkpointing_and_shards() -> None:
    # 25,000 tokens without checkpointing keep 28 x 225,400 bytes each: 147 GiB.
    settings = [*GPUS, "ray_learner.num_workers=4", "learner.gradient_checkpointing=false"]
    config = override(RunConfig(), settings)
    planner = Planner(model_of(qwen25_7b()), MachineMemory(gpu=79 * GIB))
    with pytest.raises(ConfigError) as refused:
        check_room(config, planner)
    message = str(refused.value)
    assert re.search(r"The learner worker needs [\d.]+ GiB per GPU \(activations 1\d\d\.\d GiB", message)
    # The fp32 sum of gradients, 28 GiB, is whole on every rank below ZeRO 2.
    assert message.endswith("Set learner.gradient_checkpointing=true and ray_learner.zero_stage=3.")
    checked = override(config, ["learner.gradient_checkpointing=true", "ray_learner.zero_stage=3"])
    assert planner(checked).crowded == ""


def test_settings_are_combined_only_where_one_is_not_enough() -> None:
    off = "learner.gradient_checkpointing=false"
    config = override(RunConfig(), [*GPUS, "ray_learner.num_workers=4", off])
    planner = Planner(model_of(qwen25_7b()), MachineMemory(gpu=56 * GIB))
    settings = fitting_settings(config, planner)
    assert settings == ("learner.gradient_checkpointing=true", "ray_learner.zero_stage=3")
    assert planner(override(config, settings)).crowded == ""
    for setting in settings:
        assert planner(override(config, [setting])).crowded


def test_an_adapter_is_proposed_where_nothing_else_is_enough() -> None:
    config = override(RunConfig(), GPUS)
    planner = Planner(model_of(qwen25_7b()), MachineMemory(gpu=40 * GIB))
    settings = fitting_settings(override(config, ["engine.kv_cache_gib=8"]), planner)
    assert 'learner.lora={"rank": 16}' in settings


def test_model_that_no_setting_makes_fit_is_refused_with_that() -> None:
    planner = Planner(Model(parameters=10**12), MachineMemory(host=8 * GIB))
    with pytest.raises(ConfigError, match="No setting of the learner or the engines makes it fit"):
        check_room(RunConfig(), planner)


def test_run_without_a_learner_is_not_refused_for_the_learners_memory() -> None:
    check_run(
        RunConfig(),
        inline=True,
        environment={},
        gpus_here=0,
        learns=False,
        machine=MachineMemory(host=GIB / 10),
    )


def test_check_of_a_run_refuses_a_machine_that_is_too_small() -> None:
    with pytest.raises(ConfigError, match=r"The run needs 3\.\d GiB of host memory, and this machine has 3"):
        check_run(
            override(RunConfig(), ["engine.kv_cache_gib=2"]), inline=False, environment={}, gpus_here=0,
            machine=MachineMemory(host=3 * GIB),
        )  # fmt: skip


def test_lines_compare_activations_and_name_what_fits() -> None:
    settings = [
        "ray_learner.num_workers=4",
        "ray_learner.zero_stage=3",
        "learner.gradient_checkpointing=false",
    ]
    config = override(RunConfig(), [*GPUS, *settings])
    model = model_of(qwen25_7b())
    plan = Planner(model, MachineMemory(host=300 * GIB, gpu=79 * GIB))(config)
    lines = dict(memory_lines(config, model, plan, inline=False))
    # 25,000 tokens x (28 x 225,400 + 171,008) and x (28 x 7,168 + 225,400 + 171,008) bytes.
    assert lines["activations"].startswith("150.9 GiB for a micro-batch of 25000 tokens; 13.9 GiB with")
    # 1 GiB / 57,344 bytes.
    assert lines["KV cache"] == "18724 tokens per engine, 0.749 dialogues of engine.max_model_len=25000"
    assert lines["checkpoint"] == "99.3 GiB, and the newest 2 are kept"
    assert lines["GPU memory"].endswith("per GPU; does not fit into 79.0 GiB")
    assert "; fits into 95% of 300.0 GiB" in lines["host memory"]


def test_memory_of_a_gpu_in_the_config_is_used() -> None:
    assert machine_memory(gpu_gib=79, is_cluster=True) == MachineMemory(host=None, gpu=79 * GIB)


def test_limit_of_a_container_is_respected(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 2048 kB\nMemFree: 1 kB\nMemAvailable: 1024 kB\n")
    assert host_memory(meminfo, tmp_path) == (2048 * 1024, 1024 * 1024)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert host_memory(meminfo, tmp_path) == (1_000_000, 600_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert host_memory(meminfo, tmp_path) == (2048 * 1024, 1024 * 1024)


SHARED = [
    *GPUS, "engine.gpus_per_engine=0.5", "ray_learner.gpus_per_worker=0.5", "rollout.context_length=8000",
    "engine.max_model_len=8000", "learner.micro_batch_tokens=8000", "learner.gradient_checkpointing=true",
    'learner.lora={"push": "merged"}', "engine.kv_cache_gib=20", "num_engines=1",
]  # fmt: skip


def test_engine_and_learner_on_one_gpu_fit_because_the_engine_sleeps() -> None:
    planner = Planner(model_of(qwen25_7b()), MachineMemory(gpu=56 * GIB))
    awake, asleep = (override(RunConfig(), [*SHARED, f"engine.sleep_level={level}"]) for level in (0, 1))
    with pytest.raises(ConfigError, match=r"share a GPU and need [\d.]+ GiB of it during updates") as refused:
        check_room(awake, planner)
    assert str(refused.value).endswith("Set engine.sleep_level=1.")
    plan = check_room(asleep, planner)
    learner, engine = plan.processes[0], plan.processes[1]
    assert plan.shared_gpu == {
        "updates": learner.gpu_bytes + GIB,
        "rollouts": engine.gpu_bytes + sum(learner.waiting.values()),
    }
    assert sum(learner.waiting.values()) < learner.gpu_bytes
    # The plan states what the shared GPU holds, not what its larger process holds.
    assert plan.gpu_bytes == max(plan.shared_gpu.values()) > max(learner.gpu_bytes, engine.gpu_bytes)
    # Level 1 keeps the weights of the sleeping engine on the host, level 2 keeps none.
    hosts = [planner(override(asleep, [f"engine.sleep_level={level}"])).processes[1].host for level in (1, 2)]
    assert [host["weights asleep"] for host in hosts] == [2.0 * qwen25_7b().parameters, 0.0]
