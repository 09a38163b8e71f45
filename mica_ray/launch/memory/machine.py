"""MachineMemory: how much memory this machine has, on its GPUs and outside of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_PROC, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """Memory of the machine that a run starts on; None where it is not known."""

    host: float | None = None
    """Bytes in all, within the limit of a container."""
    gpu: float | None = None
    """Bytes of its smallest GPU."""


def machine_memory(*, gpu_gib: float | None = None, is_cluster: bool = False) -> MachineMemory:
    """Return the memory of this machine.

    Args:
        gpu_gib: memory of a GPU from the config, which overrides that of this machine's GPUs.
        is_cluster: whether the run joins a cluster; its nodes are not known here.
    """
    gpu = gpu_gib * 2.0**30 if gpu_gib is not None else None if is_cluster else _smallest_gpu()
    return MachineMemory(host=None if is_cluster else host_memory()[0], gpu=gpu)


def host_memory(meminfo: Path = _PROC, cgroup: Path = _CGROUP) -> tuple[float, float]:
    """Return the total and the available memory in bytes, within the limit of a container."""
    fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
    total, available = (1024.0 * float(fields[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if limit.is_file() and used.is_file() and (allowed := limit.read_text().strip()).isdigit():
        total = min(total, float(allowed))
        available = min(available, float(allowed) - float(used.read_text()))
    return total, available


def _smallest_gpu() -> float | None:
    """Return the memory of the smallest GPU that torch sees; None without one."""
    import torch

    sizes = [
        torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())
    ]
    return float(min(sizes)) if sizes else None
