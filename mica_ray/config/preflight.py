"""What can be checked before anything starts, and the plan of a run. Starts and writes nothing."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mica_ray.config.policy_source import (
    EMBEDDED,
    PolicyFacts,
    check_context,
    fetch_policy,
    read_policy_facts,
)
from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.config.world import check_role_keys, read_domain
from mica_ray.rollout.embedded_policy import EmbeddedPolicyRecipe

_GIB = 2**30
_SPARE_DISK = 2 * _GIB
"""Bytes kept free beside the checkpoints: records, MLflow, Ray's own files."""
_BYTES_PER_WEIGHT = {"float32": 16, "bfloat16": 16}
"""Learner memory per parameter: weight, gradient, two moments in fp32; or 2 + 2, fp32 master and moments."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will start and need, in the order in which it is shown."""

    lines: tuple[tuple[str, str], ...]
    """Subject and statement."""


def check_run(
    config: RunConfig,
    *,
    inline: bool,
    environment: Mapping[str, str],
    gpus_here: int | None,
    weights: bool = False,
) -> Plan:
    """Check a run as far as that goes without starting it.

    Args:
        config: of the run.
        inline: whether it runs in this process.
        environment: variables among which endpoints find their keys.
        gpus_here: GPUs of this machine; None when the run joins a cluster, whose GPUs are counted on joining.
        weights: whether a hub model's weights are fetched now.

    Raises:
        ConfigError: one line for the first thing that cannot work.
    """
    domain = read_domain(config)
    counts = {split: len(domain.split(split)) for split in ("train", "valid", "test")}
    for split in ("train", config.evaluation.split):
        if not counts[split]:
            raise ConfigError(f"domain {domain.name}: no scenario in split {split!r}; add some to its file")
    check_role_keys(config.roles, environment)
    if config.learner.mini_batches > config.loop.scenarios_per_step:
        raise ConfigError(
            f"learner.mini_batches: {config.learner.mini_batches} mini-batches cannot be made of "
            f"{config.loop.scenarios_per_step} scenarios; lower it or raise loop.scenarios_per_step"
        )
    facts = _policy_facts(config, weights=weights)
    if facts is not None:
        check_context(facts, config.rollout.context_length, "rollout.context_length")
    if not inline:
        _check_processes(config, gpus_here)
        if facts is not None:
            check_context(facts, config.engine.max_model_len, "engine.max_model_len")
    parameters = _num_parameters(facts)
    _check_disk(config, parameters)
    scenarios = ", ".join(f"{count} {split}" for split, count in counts.items())
    return Plan(
        (
            ("policy", _describe_policy(facts, parameters)),
            ("scenarios", f"{scenarios} of {domain.name}"),
            ("work", _describe_work(config)),
            *_describe_processes(config, inline, parameters),
        )
    )


def _check_processes(config: RunConfig, gpus_here: int | None) -> None:
    """Check what only a run with engines and workers of its own needs."""
    if config.rollout.context_length > config.engine.max_model_len:
        raise ConfigError(
            f"rollout.context_length: {config.rollout.context_length} tokens exceed "
            f"{config.engine.max_model_len}, the engines' length; set engine.max_model_len as well"
        )
    if gpus_here is not None:
        check_gpus(config, gpus_here)
    if config.dashboard_port is not None:
        check_port(config.dashboard_port, "dashboard_port")


def gpus_wanted(config: RunConfig) -> float:
    """Give the GPUs that engines and learner ask for together."""
    num_engines = config.num_engines * (1 + len(config.roles.served_models))
    return (
        num_engines * config.engine.gpus_per_engine
        + config.ray_learner.num_workers * config.ray_learner.gpus_per_worker
    )


def cpus_wanted(config: RunConfig) -> float:
    """Give the CPUs that engines and learner reserve together."""
    num_engines = config.num_engines * (1 + len(config.roles.served_models))
    return (
        num_engines * config.engine.cpus_per_engine
        + config.ray_learner.num_workers * config.ray_learner.cpus_per_worker
    )


def check_gpus(config: RunConfig, available: float) -> None:
    """Refuse a run that asks for more GPUs than there are.

    Raises:
        ConfigError: names what was asked for and which keys ask.
    """
    wanted = gpus_wanted(config)
    if wanted > available:
        raise ConfigError(
            f"{wanted:g} GPUs asked for, {available:g} there; lower num_engines x engine.gpus_per_engine + "
            "ray_learner.num_workers x ray_learner.gpus_per_worker, or name a larger cluster in RAY_ADDRESS"
        )


def check_port(port: int, key: str) -> None:
    """Refuse a port that something listens on.

    Raises:
        ConfigError: names port and key.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(f"{key}: port {port} is in use; choose another by --set {key}=PORT") from error


def _policy_facts(config: RunConfig, *, weights: bool) -> PolicyFacts | None:
    if config.policy != EMBEDDED:
        return read_policy_facts(fetch_policy(config.policy, weights=weights))
    context = EmbeddedPolicyRecipe().context_length
    check_context(
        PolicyFacts(Path(EMBEDDED), "Qwen3", context, 0),
        config.rollout.context_length,
        "rollout.context_length",
    )
    return None


def _num_parameters(facts: PolicyFacts | None) -> int | None:
    """Estimate the parameters from the weight files' size; None where they are not here."""
    if facts is None or not facts.weight_bytes:
        return None
    config = json.loads((facts.folder / "config.json").read_text())
    kind = str(config.get("dtype", config.get("torch_dtype", "bfloat16")))
    return facts.weight_bytes // (4 if kind == "float32" else 2)


def _check_disk(config: RunConfig, parameters: int | None) -> None:
    folder = (config.out or Path("runs")).absolute()
    while not folder.exists():
        folder = folder.parent
    # Weights or masters and two moments in fp32: checkpoints kept, the one in writing, the group's two.
    checkpoints = 12 * (parameters or 0) * (config.loop.keep_checkpoints + 3)
    free = shutil.disk_usage(folder).free
    if free < _SPARE_DISK + checkpoints:
        raise ConfigError(
            f"{folder}: {free / _GIB:.1f} GiB free, {(_SPARE_DISK + checkpoints) / _GIB:.1f} GiB needed; "
            "free some space or name another disk by --set out=FOLDER"
        )


def _describe_policy(facts: PolicyFacts | None, parameters: int | None) -> str:
    if facts is None:
        return "the embedded one, made on first use and kept in the user's cache"
    size = f"{parameters / 1e6:.0f} M parameters" if parameters else "size unknown until fetched"
    return f"{facts.folder} ({facts.architecture}, {size}, context {facts.context_length or 'unknown'})"


def _describe_work(config: RunConfig) -> str:
    loop, learner, group_size = config.loop, config.learner, config.rollout.group_size
    return (
        f"{loop.num_steps} steps of {loop.scenarios_per_step} scenarios x {group_size} dialogues "
        f"and {learner.epochs * learner.mini_batches} optimiser steps; evaluated before and after"
    )


def _describe_processes(
    config: RunConfig, inline: bool, parameters: int | None
) -> tuple[tuple[str, str], ...]:
    group, engine = config.ray_learner, config.engine
    memory = (
        "unknown"
        if parameters is None
        else f"{parameters * _BYTES_PER_WEIGHT[config.learner.dtype] / _GIB:.1f} GiB"
    )
    if inline:
        return (
            ("processes", "this one: transformers engine and AdamW"),
            ("learner memory", f"{memory}, and activations"),
        )
    shards = group.num_workers if group.zero_stage else 1
    return (
        ("engines", f"{config.num_engines} vLLM actors, {engine.gpus_per_engine:g} GPUs each"),
        (
            "learner",
            f"{group.num_workers} Ray Train workers, DeepSpeed ZeRO {group.zero_stage}, "
            f"{group.gpus_per_worker:g} GPUs each",
        ),
        ("learner memory", f"{memory} over up to {shards} shards, and activations"),
        ("GPUs", f"{gpus_wanted(config):g}"),
    )
