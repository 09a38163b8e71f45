"""Describe what a run will start and need. The checks are in launch/preflight.py."""

from __future__ import annotations

from dataclasses import dataclass

from mica_ray.config.role_config import EMBEDDED
from mica_ray.config.run_config import RunConfig
from mica_ray.launch.policy_source import PolicyFacts
from mica_ray.rollout.engine_config import EngineConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will start and need, in display order."""

    lines: tuple[tuple[str, str], ...]
    """Pairs of subject and statement."""


def gpus_wanted(config: RunConfig) -> float:
    """Return the number of GPUs of all engines and the learner."""
    return (
        config.num_engines * config.engine.gpus_per_engine
        + _num_role_engines(config) * config.roles.engine.gpus_per_engine
        + config.ray_learner.num_workers * config.ray_learner.gpus_per_worker
    )


def cpus_wanted(config: RunConfig) -> float:
    """Return the number of CPUs that all engines and the learner reserve."""
    return (
        config.num_engines * config.engine.cpus_per_engine
        + _num_role_engines(config) * config.roles.engine.cpus_per_engine
        + config.ray_learner.num_workers * config.ray_learner.cpus_per_worker
    )


def describe_policy(config: RunConfig, facts: PolicyFacts) -> str:
    """Describe the policy and its size."""
    size = (
        f"{facts.parameters / 1e6:.1f} M parameters" if facts.parameters else "size unknown until downloaded"
    )
    facts_text = f"{facts.architecture}, {size}, context {facts.context_length or 'unknown'}"
    if config.policy == EMBEDDED:
        return f"embedded, made on first use and kept in the user cache ({facts_text})"
    return f"{facts.folder} ({facts_text})"


def describe_work(config: RunConfig) -> str:
    """Describe the number of steps, dialogues and optimizer steps."""
    loop, learner, dialogues = config.loop, config.learner, config.dialogues_per_step
    return (
        f"{_count(loop.num_steps, 'step')}; each plays {_count(dialogues, 'dialogue')} "
        f"({_count(loop.scenarios_per_step, 'scenario')} x {config.rollout.group_size}) and takes "
        f"{_count(learner.epochs * learner.mini_batches, 'optimizer step')}; "
        "evaluation before and after training"
    )


def describe_processes(config: RunConfig, *, inline: bool) -> tuple[tuple[str, str], ...]:
    """Describe what is started. Its memory is described in memory/lines.py."""
    roles, group = config.roles, config.ray_learner
    if inline:
        served = roles.served_models
        engines = f"; role models: {', '.join(served)}" if served else ""
        return (("processes", f"this process only: transformers engine and AdamW{engines}"),)
    engines = [
        _describe_actors(config.num_engines, config.engine),
        *(
            f"{_describe_actors(roles.num_engines, roles.engine)} for role model {model}"
            for model in roles.served_models
        ),
    ]
    return (
        ("engines", "; ".join(engines)),
        (
            "learner",
            f"{_count(group.num_workers, 'Ray Train worker')}, DeepSpeed ZeRO {group.zero_stage}, "
            f"{_per_each(group.gpus_per_worker)}",
        ),
        ("GPUs", f"{gpus_wanted(config):g}"),
    )


def _describe_actors(count: int, engine: EngineConfig) -> str:
    return f"{_count(count, 'vLLM actor')}, {_per_each(engine.gpus_per_engine)}"


def _num_role_engines(config: RunConfig) -> int:
    return config.roles.num_engines * len(config.roles.served_models)


def _per_each(gpus: float) -> str:
    return f"{gpus:g} GPU{'' if gpus == 1 else 's'} each"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
