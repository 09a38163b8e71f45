"""The plan of a run: what it will start and need, in words and numbers. Checks nothing; preflight.py does."""

from __future__ import annotations

from dataclasses import dataclass

from mica_ray.config.role_config import EMBEDDED
from mica_ray.config.run_config import RunConfig
from mica_ray.launch.policy_source import PolicyFacts
from mica_ray.rollout.engine_config import EngineConfig

_GIB = 2**30
_BYTES_PER_WEIGHT = 16
"""Learner memory per parameter: weight, gradient, two moments in fp32; or 2 + 2, fp32 master and moments."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will start and need, in the order in which it is shown."""

    lines: tuple[tuple[str, str], ...]
    """Subject and statement."""


def gpus_wanted(config: RunConfig) -> float:
    """Give the GPUs that engines and learner ask for together."""
    return (
        config.num_engines * config.engine.gpus_per_engine
        + _num_role_engines(config) * config.roles.engine.gpus_per_engine
        + config.ray_learner.num_workers * config.ray_learner.gpus_per_worker
    )


def cpus_wanted(config: RunConfig) -> float:
    """Give the CPUs that engines and learner reserve together."""
    return (
        config.num_engines * config.engine.cpus_per_engine
        + _num_role_engines(config) * config.roles.engine.cpus_per_engine
        + config.ray_learner.num_workers * config.ray_learner.cpus_per_worker
    )


def describe_policy(config: RunConfig, facts: PolicyFacts) -> str:
    """Say which policy is trained and how large it is."""
    size = f"{facts.parameters / 1e6:.1f} M parameters" if facts.parameters else "size unknown until fetched"
    facts_text = f"{facts.architecture}, {size}, context {facts.context_length or 'unknown'}"
    if config.policy == EMBEDDED:
        return f"the embedded one, made on first use and kept in the user's cache ({facts_text})"
    return f"{facts.folder} ({facts_text})"


def describe_work(config: RunConfig) -> str:
    """Say how much is played and learned."""
    loop, learner, group_size = config.loop, config.learner, config.rollout.group_size
    updates = learner.epochs * learner.mini_batches
    return (
        f"{_count(loop.num_steps, 'step')} of {_count(loop.scenarios_per_step, 'scenario')} x "
        f"{_count(group_size, 'dialogue')} and {_count(updates, 'optimiser step')}; "
        "evaluated before and after"
    )


def describe_processes(config: RunConfig, facts: PolicyFacts, *, inline: bool) -> tuple[tuple[str, str], ...]:
    """Say what is started, and the memory it takes."""
    learner_memory = _memory(facts.parameters, _BYTES_PER_WEIGHT)
    if inline:
        served = config.roles.served_models
        engines = f"; role models: {', '.join(served)}" if served else ""
        return (
            ("processes", f"this one: transformers engine and AdamW{engines}"),
            ("learner memory", f"{learner_memory}, and activations"),
        )
    group = config.ray_learner
    shards = group.num_workers if group.zero_stage else 1
    return (
        *_describe_engines(config, facts),
        (
            "learner",
            f"{_count(group.num_workers, 'Ray Train worker')}, DeepSpeed ZeRO {group.zero_stage}, "
            f"{_per_each(group.gpus_per_worker)}",
        ),
        ("learner memory", f"{learner_memory} over up to {_count(shards, 'shard')}, and activations"),
        ("GPUs", f"{gpus_wanted(config):g}"),
    )


def _describe_engines(config: RunConfig, facts: PolicyFacts) -> tuple[tuple[str, str], ...]:
    """Say which engines are started for the policy and for each served role model."""
    roles, bytes_per_weight = config.roles, 4 if config.engine.dtype == "float32" else 2
    engines = [_describe_actors(config.num_engines, config.engine)]
    memory = [
        f"{config.engine.kv_cache_gib:g} GiB KV cache and {_memory(facts.parameters, bytes_per_weight)} "
        "of weights each"
    ]
    for model in roles.served_models:
        engines.append(f"{_describe_actors(roles.num_engines, roles.engine)} of {model} for roles")
        memory.append(f"{model}: {roles.engine.kv_cache_gib:g} GiB KV cache and its weights each")
    return (("engines", "; ".join(engines)), ("engine memory", "; ".join(memory)))


def _describe_actors(count: int, engine: EngineConfig) -> str:
    return f"{_count(count, 'vLLM actor')}, {_per_each(engine.gpus_per_engine)}"


def _num_role_engines(config: RunConfig) -> int:
    return config.roles.num_engines * len(config.roles.served_models)


def _memory(parameters: int | None, bytes_per_weight: int) -> str:
    if parameters is None:
        return "an unknown amount"
    size = parameters * bytes_per_weight
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / 2**20:.0f} MiB"


def _per_each(gpus: float) -> str:
    return f"{gpus:g} GPU{'' if gpus == 1 else 's'} each"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
