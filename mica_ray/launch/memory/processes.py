"""What every process of a run holds at its peak, in host memory and on a GPU, from the config.

The formulas are in formulas.py; room.py compares the sums with what the machine has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mica_ray.config.run_config import RunConfig
from mica_ray.launch.memory import formulas
from mica_ray.launch.memory.cache_need import policy_engine, role_engine
from mica_ray.launch.memory.formulas import Sharding
from mica_ray.launch.memory.model_shape import ModelShape
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.rollout.weights import BUCKET_BYTES
from mica_ray.training.policy_folder import uses_checkpointing

GIB = 2**30
LEARNER, ENGINE = "learner worker", "policy engine"
"""Names of the processes that may share a GPU."""
Parts = Mapping[str, float]
"""Bytes by what they are for."""
STAGES = ("start", "update", "push")
"""What a run does: it loads models, trains on a batch, and hands the weights over to the engines."""

# Measured on Linux with torch 2.13, proportional set sizes after the imports (experiments/plan_accuracy.py).
DRIVER_GIB = 0.65
"""`mica train` itself: torch, transformers, Ray, MLflow."""
RAY_GIB = 1.3
"""Raylet, head service and agents of a node, and the six actors of Ray Train."""
LEARNER_GIB = 0.48
"""A learner worker before it loads a model: torch, transformers, DeepSpeed."""
ENGINE_GIB = 0.75
"""An engine without its model: torch, vLLM and what its first batch needs."""
MAILBOX_GIB = 0.1
"""The actor between driver and learner workers."""

# Estimates: no GPU has run this yet.
CUDA_GIB = 1.0
"""CUDA context and libraries of one process, on its GPU."""
ENGINE_SCRATCH_GIB = 2.0
"""Activations of vLLM's longest prompt chunk, and its CUDA graphs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What the plan knows about a model."""

    parameters: int | None
    """None: unknown."""
    shape: ModelShape | None = None
    """None: not a dense decoder; then activations are not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """The largest use of memory of some equal processes."""

    name: str
    count: int = 1
    gpus: float = 0.0
    """GPUs of one process."""
    host: Parts = field(default_factory=dict)
    """Of one process."""
    gpu: Parts = field(default_factory=dict)
    """On each GPU of one process."""
    waiting: Parts = field(default_factory=dict)
    """On each GPU of one process while the other half of the loop works: the learner during rollouts, the
    policy's engine during updates."""

    during: Mapping[str, float] = field(default_factory=dict[str, float])
    """Bytes of host memory of one process in the `STAGES` in which it has less than at its peak."""

    @property
    def host_bytes(self) -> float:
        """Bytes of host memory of one process at its peak."""
        return sum(self.host.values())

    @property
    def gpu_bytes(self) -> float:
        """Bytes that processes like this one take of a GPU; several share it if they have a fraction each."""
        sharing = min(self.count, int(1 / self.gpus)) if 0 < self.gpus < 1 else 1
        return sharing * sum(self.gpu.values())


def run_processes(
    config: RunConfig, policy: Model, served: Mapping[str, Model], *, inline: bool
) -> tuple[ProcessMemory, ...]:
    """Return the memory of every process of a training run.

    Args:
        config: of the run.
        policy: the policy.
        served: models that engines serve for roles, by name.
        inline: whether one process contains everything.
    """
    if inline:
        return (_inline_process(config, policy, served),)
    roles = config.roles
    weights, batch = float(_pushed_bytes(config, policy)), _batch_bytes(config)
    driver, ray = {"process": DRIVER_GIB * GIB, "batch": batch}, {"process": RAY_GIB * GIB}
    return (
        _learner(config, policy),
        _engine(ENGINE, config.num_engines, policy_engine(config, policy.shape), policy),
        *(
            _engine(f"engine of {name}", roles.num_engines, role_engine(config, name, model.shape), model)
            for name, model in served.items()
        ),
        ProcessMemory(name="driver", host=driver),
        ProcessMemory(name="mailbox", host={"process": MAILBOX_GIB * GIB}),
        # The store holds the weights of the engines, and the new version while it is loaded.
        ProcessMemory(
            name="Ray",
            host={**ray, "object store": 2.0 * weights + batch},
            during=dict.fromkeys(("start", "update"), sum(ray.values()) + weights + batch),
        ),
    )


def learner_sharding(config: RunConfig, *, inline: bool) -> Sharding:
    """Return how the learner of a config keeps its numbers."""
    group, learner = config.ray_learner, config.learner
    if inline:
        return Sharding(kind="local", dtype=learner.dtype, is_on_gpu=False)
    return Sharding(
        kind="deepspeed",
        ranks=group.num_workers,
        zero_stage=group.zero_stage,
        dtype=learner.dtype,
        is_on_gpu=group.gpus_per_worker > 0,
    )


def micro_batch_tokens(config: RunConfig, *, inline: bool) -> int:
    """Return the largest number of padded tokens of one micro-batch: one row at least, all rows at most."""
    learner = config.learner
    ranks = 1 if inline else config.ray_learner.num_workers
    length = config.rollout.context_length
    rows = -(-config.dialogues_per_step // (learner.mini_batches * ranks))
    return max(length, min(learner.micro_batch_tokens, rows * length))


def is_checkpointed(config: RunConfig, policy: Model) -> bool:
    """Return whether the learner computes the policy's activations again in the backward pass."""
    return uses_checkpointing(config.learner.gradient_checkpointing, policy.parameters or 0)


def learner_phases(
    model: Model,
    sharding: Sharding,
    *,
    tokens: int,
    checkpointing: bool,
    has_reference: bool,
    steps: int,
    trained: int | None = None,
) -> Mapping[str, Parts]:
    """Return what a learner holds in each phase of an update, on the device that it computes on.

    Args:
        model: the policy.
        sharding: how it keeps its numbers.
        tokens: padded tokens of one micro-batch.
        checkpointing: whether activations are computed again.
        has_reference: whether the loss has a KL term, for which the ranks hold the initial policy: in shards
            from ZeRO 1 on, otherwise each of them.
        steps: optimizer steps of the run; the first creates AdamW's moments.
        trained: parameters of the adapter that is trained; None: all.
    """
    count, shape = model.parameters or 0, model.shape
    updated = count if trained is None else trained
    reference_ranks = sharding.ranks if sharding.zero_stage else 1
    kept = {
        "weights": formulas.weight_bytes(count, sharding),
        "master weights": formulas.master_bytes(updated, sharding),
        "reference": sharding.size * count / reference_ranks if has_reference else 0.0,
        "gradient sums": formulas.sum_bytes(updated, sharding),
    }
    moments = formulas.moment_bytes(updated, sharding)
    backward = {
        **kept,
        "moments": moments if steps > 1 else 0.0,
        "gradients": formulas.gradient_bytes(updated, shape, sharding),
    }
    reduction = {
        **kept,
        "moments": backward["moments"],
        "sum over ranks": formulas.reduce_bytes(updated, sharding),
    }
    if shape is not None:
        backward["activations"] = formulas.activation_bytes(
            shape, tokens, sharding.dtype, checkpointing=checkpointing
        )
        backward["head"] = formulas.head_bytes(shape, tokens, sharding.dtype, is_on_gpu=sharding.is_on_gpu)
    step = {**kept, "moments": moments, "optimizer step": formulas.step_bytes(updated, sharding)}
    return {"backward": backward, "reduction": reduction, "step": step}


_KEPT = ("weights", "master weights", "moments", "reference", "gradient sums")
"""Parts of a learner that stay between updates."""


def _learner(config: RunConfig, policy: Model) -> ProcessMemory:
    """Return the memory of the workers of the group."""
    group = config.ray_learner
    sharding = learner_sharding(config, inline=False)
    phases = _config_phases(config, policy, sharding, inline=False)
    process: Parts = {"process": LEARNER_GIB * GIB, "batch": _batch_bytes(config)}
    kept = {name: phases["step"][name] for name in _KEPT}
    sending: Parts = {"bucket to send": float(_bucket_bytes(config, policy))}
    if sharding.is_on_gpu:
        context = {"process": CUDA_GIB * GIB}
        # Each rank loads the whole model.
        loading = {"weights while loading": float(sharding.size * (policy.parameters or 0))}
        return ProcessMemory(
            name=LEARNER,
            count=group.num_workers,
            gpus=group.gpus_per_worker,
            host={**process, **_largest([loading, sending])},
            gpu={**context, **_largest(phases.values())},
            waiting={**context, **kept},
        )
    rest = sum(process.values()) + sum(kept.values())
    return ProcessMemory(
        name=LEARNER,
        count=group.num_workers,
        host={**process, **_largest(phases.values())},
        during={"start": rest - kept["moments"], "push": rest + sum(sending.values())},
    )


def _bucket_bytes(config: RunConfig, policy: Model) -> int:
    """Return the bytes of the largest bucket that a worker holds at a time."""
    size = formulas.BYTES[config.learner.dtype]
    largest = BUCKET_BYTES if policy.shape is None else max(BUCKET_BYTES, size * policy.shape.head_parameters)
    # Small tensors are copied once before they are packed together.
    return min(_pushed_bytes(config, policy), 2 * largest)


def _inline_process(config: RunConfig, policy: Model, served: Mapping[str, Model]) -> ProcessMemory:
    """Return the memory of a run in one process: learner, engine and role models."""
    sharding, count = learner_sharding(config, inline=True), policy.parameters or 0
    # The engine is a second model in memory, with a cache that grows with the replies being sampled.
    engine = float(sharding.size * count)
    replies = config.dialogues_per_step
    cache = 0.0
    if policy.shape is not None:
        cache = formulas.cache_bytes(
            policy.shape, min(replies, 64) * config.rollout.context_length, config.learner.dtype
        )
    roles = sum(
        formulas.BYTES[config.roles.engine.dtype] * (model.parameters or 0) for model in served.values()
    )
    always = {"process": DRIVER_GIB * GIB, "engine": engine, "role models": float(roles)}
    sending = {"weights to send": float(engine), "engine's cache": float(cache)}
    phases = _config_phases(config, policy, sharding, inline=True)
    kept = {name: phases["step"][name] for name in _KEPT}
    peak = _largest([*phases.values(), {**kept, **sending}])
    return ProcessMemory(name="this process", host={**always, **peak})


def _config_phases(
    config: RunConfig, policy: Model, sharding: Sharding, *, inline: bool
) -> Mapping[str, Parts]:
    learner = config.learner
    return learner_phases(
        policy,
        sharding,
        tokens=micro_batch_tokens(config, inline=inline),
        checkpointing=is_checkpointed(config, policy),
        # With an adapter, the policy itself is the reference.
        has_reference=learner.loss.kl_coefficient > 0 and learner.lora is None,
        steps=config.whole_learner.total_updates,
        trained=trained_parameters(config, policy),
    )


def trained_parameters(config: RunConfig, policy: Model) -> int | None:
    """Return the parameters of the adapter; None if all are trained, or the shape is unknown."""
    lora = config.learner.lora
    if lora is None or policy.shape is None:
        return None
    return policy.shape.adapter_parameters(lora.rank, lora.targets)


def run_checkpoint_bytes(config: RunConfig, policy: Model, *, inline: bool) -> int:
    """Return the bytes of one checkpoint of a run; 0 if the size of the policy is unknown."""
    kind, trained = learner_sharding(config, inline=inline).kind, trained_parameters(config, policy)
    parameters = (policy.parameters or 0) if trained is None else trained
    return formulas.checkpoint_bytes(parameters, config.learner.dtype, kind=kind)


def _pushed_bytes(config: RunConfig, policy: Model) -> int:
    """Return the bytes that go to the engines after a step."""
    lora, trained = config.learner.lora, trained_parameters(config, policy)
    is_adapter = lora is not None and lora.push == "adapter" and trained is not None
    return formulas.bucket_bytes(
        trained if is_adapter and trained is not None else policy.parameters or 0, config.learner.dtype
    )


def _engine(name: str, count: int, engine: EngineConfig, model: Model) -> ProcessMemory:
    """Return the memory of the engines of one model.

    On a CPU vLLM packs the head of a tied model a second time. On GPUs the weights and the cache are per GPU;
    scores of `max_num_seqs` replies in fp32 are sorted, twice 4 V bytes each. Weights that arrive through the
    object store are read from a file in shared memory.
    """
    weights = float(formulas.BYTES[engine.dtype] * (model.parameters or 0))
    scores = 8.0 * engine.max_num_seqs * (0 if model.shape is None else model.shape.vocabulary)
    cache = engine.kv_cache_gib * GIB
    process: Parts = {"process": ENGINE_GIB * GIB}
    if not engine.gpus_per_engine:
        is_packed = model.shape is not None and model.shape.is_tied
        packed = formulas.BYTES[engine.dtype] * model.shape.head_parameters if model.shape else 0
        parts = {
            "weights": weights, "packed head": float(packed if is_packed else 0),
            "KV cache": cache, "scores": scores, "weights while loading": weights,
        }  # fmt: skip
        loaded = sum(process.values()) + sum(parts.values()) - weights
        return ProcessMemory(name=name, count=count, host={**process, **parts}, during={"update": loaded})
    on_gpu = {
        "process": CUDA_GIB * GIB,
        "weights": weights / engine.tensor_parallel,
        "KV cache": cache,
        "activations": ENGINE_SCRATCH_GIB * GIB + scores,
    }
    arriving = weights if engine.weight_transfer == "bucket" else 0.0
    # Level 1 keeps the sleeping engine's weights in host memory.
    asleep = weights if engine.sleep_level == 1 else 0.0
    return ProcessMemory(
        name=name,
        count=count,
        gpus=engine.gpus_per_engine / engine.tensor_parallel,
        host={**process, "weights that arrive": arriving, "weights asleep": asleep},
        gpu=on_gpu,
        waiting={"process": CUDA_GIB * GIB} if engine.sleep_level else on_gpu,
    )


def _batch_bytes(config: RunConfig) -> float:
    rows = config.dialogues_per_step
    return float(formulas.batch_bytes(rows, config.rollout.context_length))


def _largest(phases: Iterable[Parts]) -> Parts:
    """Return the phase with the largest sum."""
    return max(phases, key=lambda parts: sum(parts.values()))
