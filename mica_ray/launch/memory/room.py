"""Whether the memory of a run fits its machine, and which setting would make it fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from mica_ray.config.overrides import override
from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.launch.memory.machine import MachineMemory
from mica_ray.launch.memory.processes import (
    ENGINE,
    GIB,
    LEARNER,
    STAGES,
    Model,
    ProcessMemory,
    run_processes,
)

HOST_FRACTION = 0.95
"""Share of a machine's memory above which Ray ends the largest process (RAY_memory_usage_threshold)."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The memory of a run's processes, and of the machine that it starts on."""

    processes: tuple[ProcessMemory, ...]
    machine: MachineMemory

    @property
    def host_bytes(self) -> float:
        """Bytes of host memory of all processes, in the stage that needs most."""
        return max(
            sum(one.count * one.during.get(stage, one.host_bytes) for one in self.processes)
            for stage in STAGES
        )

    @property
    def host_limit(self) -> float | None:
        """Bytes of host memory that all processes may use; None if the machine is not known."""
        return None if self.machine.host is None else HOST_FRACTION * self.machine.host

    @property
    def crowded(self) -> str:
        """What does not fit, as the beginning of a sentence; empty if everything fits or is not known."""
        for process in self.processes:
            if self.machine.gpu is not None and process.gpus and process.gpu_bytes > self.machine.gpu:
                return (
                    f"The {process.name} needs {gib(process.gpu_bytes)} per GPU ({describe(process.gpu)}), "
                    f"and a GPU has {gib(self.machine.gpu)}"
                )
        if shared := self._crowded_gpu():
            return shared
        if self.host_limit is not None and self.host_bytes > self.host_limit:
            largest = max(self.processes, key=lambda process: process.count * process.host_bytes)
            return (
                f"The run needs {gib(self.host_bytes)} of host memory, and this machine has "
                f"{gib(self.machine.host or 0.0)}, of which Ray allows {HOST_FRACTION:.0%}. "
                f"The largest part: {largest.count} x {largest.name}, {gib(largest.host_bytes)} each "
                f"({describe(largest.host)})"
            )
        return ""

    @property
    def gpu_bytes(self) -> float:
        """Bytes of the GPU that the run fills most; 0 without GPUs."""
        each = [process.gpu_bytes for process in self.processes if process.gpus]
        return max([*each, *self.shared_gpu.values()], default=0.0)

    @property
    def shared_gpu(self) -> Mapping[str, float]:
        """Bytes of a GPU that learner and engine share, by what happens; empty if they share none.

        During updates the engine sleeps, if it may; during rollouts the learner keeps weights and optimizer.
        """
        sharing = {process.name: process for process in self.processes if 0 < process.gpus < 1}
        if not {LEARNER, ENGINE} <= sharing.keys():
            return {}
        learner, engine = sharing[LEARNER], sharing[ENGINE]
        return {
            "updates": sum(learner.gpu.values()) + engine.count * sum(engine.waiting.values()),
            "rollouts": engine.gpu_bytes + sum(learner.waiting.values()),
        }

    def _crowded_gpu(self) -> str:
        """What does not fit on a shared GPU, as in `crowded`."""
        for what, needed in self.shared_gpu.items():
            if self.machine.gpu is not None and needed > self.machine.gpu:
                parts = {process.name: describe(process.gpu) for process in self.processes if process.gpus}
                return (
                    f"Learner and engine share a GPU and need {gib(needed)} of it during {what} (learner: "
                    f"{parts[LEARNER]}; engine: {parts[ENGINE]}), and a GPU has {gib(self.machine.gpu)}"
                )
        return ""

    def to_json(self) -> dict[str, object]:
        """Return bytes by process and part, in types of JSON."""
        return {
            "processes": {
                process.name: {
                    "count": process.count,
                    "gpus": process.gpus,
                    "host": dict(process.host),
                    "gpu": dict(process.gpu),
                }
                for process in self.processes
            },
            "host_bytes": self.host_bytes,
            "machine": {"host": self.machine.host, "gpu": self.machine.gpu},
        }


def plan_memory(
    config: RunConfig,
    policy: Model,
    served: Mapping[str, Model],
    *,
    inline: bool,
    machine: MachineMemory,
) -> MemoryPlan:
    """Return the memory of a run; arguments as for `run_processes`."""
    return MemoryPlan(run_processes(config, policy, served, inline=inline), machine)


def fitting_settings(config: RunConfig, plan: Callable[[RunConfig], MemoryPlan]) -> tuple[str, ...]:
    """Return the fewest settings of `_CANDIDATES` with which the run fits; empty if none helps.

    First each setting by itself, then all up to each one, without those that do not matter.

    Args:
        config: of a run that does not fit.
        plan: plans the memory of a changed config.
    """

    def fits(assignments: Sequence[str]) -> bool:
        changed = _changed(config, assignments)
        return changed is not None and not plan(changed).crowded

    candidates = [(name,) for name in _candidates(config)]
    together = [tuple(group) for group in accumulate(candidates) if len(group) > 1]
    for group in (*candidates, *together):
        if fits(group):
            for name in group:
                rest = tuple(other for other in group if other != name)
                if rest and fits(rest):
                    group = rest
            return group
    return ()


def check_room(config: RunConfig, plan: Callable[[RunConfig], MemoryPlan]) -> MemoryPlan:
    """Check that the run fits its machine, and return its plan.

    Raises:
        ConfigError: it does not, with the settings that would make it fit.
    """
    found = plan(config)
    if not (problem := found.crowded):
        return found
    settings = fitting_settings(config, plan)
    remedy = (
        f"Set {' and '.join(settings)}."
        if settings
        else "No setting of the learner or the engines makes it fit. Use a smaller policy."
    )
    raise ConfigError(f"{problem}. {remedy}")


def describe(parts: Mapping[str, float]) -> str:
    """Return the parts of a process, largest first: `weights 1.2 GiB, gradients 0.6 GiB`."""
    ordered = sorted(parts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {gib(size)}" for name, size in ordered if size >= 2**20)


def gib(size: float) -> str:
    """Return a size in GiB, or in MiB below 100 MiB."""
    return f"{size / GIB:.1f} GiB" if size >= 100 * 2**20 else f"{size / 2**20:.0f} MiB"


def _candidates(config: RunConfig) -> Iterator[str]:
    """Yield settings that save memory, those without a cost in results or time first."""
    learner, group, engine, roles = config.learner, config.ray_learner, config.engine, config.roles
    if learner.micro_batch_tokens > config.rollout.context_length:
        yield f"learner.micro_batch_tokens={config.rollout.context_length}"
    if not learner.gradient_checkpointing:
        yield "learner.gradient_checkpointing=true"
    if roles.served_models and roles.engine.kv_cache_gib > 1:
        yield "roles.engine.kv_cache_gib=1"
    if 0 < engine.gpus_per_engine < 1 and 0 < group.gpus_per_worker < 1 and not engine.sleep_level:
        yield "engine.sleep_level=1"
    if engine.kv_cache_gib > 1:
        yield f"engine.kv_cache_gib={max(1.0, engine.kv_cache_gib / 2):g}"
    if config.num_engines > 1 and not engine.gpus_per_engine:
        yield "num_engines=1"
    if engine.dtype == "float32":
        yield "engine.dtype=bfloat16"
    if learner.dtype == "float32":
        yield "learner.dtype=bfloat16"
    if group.num_workers > 1 and group.zero_stage < 3:
        yield "ray_learner.zero_stage=3"
    if group.gpus_per_worker:
        for factor in (2, 4, 8):
            yield f"ray_learner.num_workers={factor * group.num_workers}"
    if learner.lora is None:
        yield 'learner.lora={"rank": 16}'


def _changed(config: RunConfig, assignments: Sequence[str]) -> RunConfig | None:
    """Return the config with assignments; None if they exclude each other."""
    try:
        return override(config, list(assignments))
    except ConfigError:
        return None
