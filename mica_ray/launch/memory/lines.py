"""The lines about memory in the plan of a dry run."""

from __future__ import annotations

from collections.abc import Iterator

from mica_ray.config.run_config import RunConfig
from mica_ray.launch.memory import formulas
from mica_ray.launch.memory.cache_need import policy_engine
from mica_ray.launch.memory.model_shape import ModelShape
from mica_ray.launch.memory.processes import (
    Model,
    Parts,
    is_checkpointed,
    learner_sharding,
    micro_batch_tokens,
    run_checkpoint_bytes,
)
from mica_ray.launch.memory.room import HOST_FRACTION, MemoryPlan, describe, gib
from mica_ray.rollout.engine_config import EngineConfig


def memory_lines(
    config: RunConfig, policy: Model, plan: MemoryPlan, *, inline: bool
) -> Iterator[tuple[str, str]]:
    """Yield what the plan states about memory: each process, activations, checkpoints, and whether it fits.

    Args:
        config: of the run.
        policy: its policy.
        plan: memory of its processes.
        inline: whether it stays in one process.
    """
    for process in plan.processes:
        each = " each" if process.count > 1 else ""
        if process.gpus:
            yield f"{process.name}, GPU memory", _total(process.gpu, " per GPU")
            yield f"{process.name}, host memory", _total(process.host, each)
        else:
            yield f"{process.name}, memory", _total(process.host, each)
    if policy.shape is not None:
        yield "activations", _activations(config, policy, policy.shape, inline=inline)
        if not inline:
            yield "KV cache", _cache(policy_engine(config, policy.shape), policy.shape)
    yield "checkpoint", _checkpoint(config, policy, inline=inline)
    yield "host memory", _host(plan)
    if any(process.gpus for process in plan.processes):
        yield "GPU memory", _gpu(plan)


def _total(parts: Parts, each: str) -> str:
    return f"at most {gib(sum(parts.values()))}{each}: {describe(parts)}"


def _activations(config: RunConfig, policy: Model, shape: ModelShape, *, inline: bool) -> str:
    """Compare a micro-batch with and without gradient checkpointing."""
    tokens = micro_batch_tokens(config, inline=inline)
    dtype = learner_sharding(config, inline=inline).dtype
    kept, recomputed = (
        gib(formulas.activation_bytes(shape, tokens, dtype, checkpointing=checkpointing))
        for checkpointing in (False, True)
    )
    setting = "on" if is_checkpointed(config, policy) else "off"
    return (
        f"{kept} for a micro-batch of {tokens} tokens; {recomputed} with gradient checkpointing, which is "
        f"{setting} (learner.gradient_checkpointing)"
    )


def _cache(engine: EngineConfig, shape: ModelShape) -> str:
    """State how many tokens fit into the key-value cache of an engine, sharded over its GPUs."""
    per_token = formulas.cache_bytes(shape, 1, engine.dtype) / min(engine.tensor_parallel, shape.kv_heads)
    tokens = int(engine.kv_cache_gib * 2**30 / per_token)
    length = engine.max_model_len
    return f"{tokens} tokens per engine, {tokens / length:.3g} dialogues of engine.max_model_len={length}"


def _checkpoint(config: RunConfig, policy: Model, *, inline: bool) -> str:
    if policy.parameters is None:
        return "size unknown until the model is downloaded"
    size = run_checkpoint_bytes(config, policy, inline=inline)
    return f"{gib(size)}, and the newest {config.loop.keep_checkpoints} are kept"


def _host(plan: MemoryPlan) -> str:
    needed = f"at most {gib(plan.host_bytes)} in all"
    if plan.machine.host is None or plan.host_limit is None:
        return f"{needed}; that of the cluster's nodes is not known"
    verdict = "fits" if plan.host_bytes <= plan.host_limit else "does not fit"
    return f"{needed}; {verdict} into {HOST_FRACTION:.0%} of {gib(plan.machine.host)}"


def _gpu(plan: MemoryPlan) -> str:
    needed = plan.gpu_bytes
    if plan.machine.gpu is None:
        return f"at most {gib(needed)} per GPU; set gpu_memory_gib to check whether it fits"
    verdict = "fits" if needed <= plan.machine.gpu else "does not fit"
    return f"at most {gib(needed)} per GPU; {verdict} into {gib(plan.machine.gpu)}"
