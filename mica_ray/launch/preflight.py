"""What can be checked before anything starts. Starts and writes nothing."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import EMBEDDED, VLLM_PREFIX
from mica_ray.config.run_config import RunConfig
from mica_ray.embedded.recipe import EmbeddedPolicyRecipe
from mica_ray.evaluation.report import CONTAMINATED
from mica_ray.launch.card_source import describe_deck, read_deck
from mica_ray.launch.cost_estimate import describe_costs
from mica_ray.launch.plan import Plan, describe_policy, describe_processes, describe_work, gpus_wanted
from mica_ray.launch.policy_source import check_context, embedded_facts, fetch_policy, read_policy_facts
from mica_ray.launch.world import check_roles, embedded_domain, read_domain

_GIB = 2**30
_SPARE_DISK = 2 * _GIB
"""Bytes kept free beside the checkpoints: records, MLflow, Ray's own files."""


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
    if config.cards is not None and not domain.split("train"):
        raise ConfigError(
            f"cards {config.cards}: every card whose P_0 is known is an official EMPA test case and not "
            "trained on; rate others by `mica data rate`, or --set allow_test_cards=true and the run is "
            "marked contaminated"
        )
    counts = {split: len(domain.split(split)) for split in ("train", "valid", "test")}
    for split in ("train", config.evaluation.split):
        if not counts[split]:
            raise ConfigError(f"domain {domain.name}: no scenario in split {split!r}; add some to its file")
    if config.policy == EMBEDDED:
        embedded_domain(config)
    check_roles(config.roles, environment)
    if config.learner.mini_batches > config.loop.scenarios_per_step:
        raise ConfigError(
            f"learner.mini_batches: {config.learner.mini_batches} mini-batches cannot be made of "
            f"{config.loop.scenarios_per_step} scenarios; lower it or raise loop.scenarios_per_step"
        )
    facts = (
        embedded_facts(EmbeddedPolicyRecipe())
        if config.policy == EMBEDDED
        else read_policy_facts(fetch_policy(config.policy, weights=weights))
    )
    check_context(facts, config.rollout.context_length, "rollout.context_length")
    if not inline:
        check_context(facts, config.engine.max_model_len, "engine.max_model_len")
        _check_processes(config, gpus_here)
    _check_role_models(config, weights=weights)
    _check_disk(config, facts.parameters)
    scenarios = ", ".join(f"{count} {split}" for split, count in counts.items())
    return Plan(
        (
            ("policy", describe_policy(config, facts)),
            ("scenarios", f"{scenarios} of {domain.name}"),
            *_describe_cards(config),
            ("work", describe_work(config)),
            ("roles", describe_costs(config, domain)),
            *describe_processes(config, facts, inline=inline),
        )
    )


def _describe_cards(config: RunConfig) -> tuple[tuple[str, str], ...]:
    """Say which cards are played, and whether test cases are trained on."""
    cards = config.cards and ("cards", describe_deck(read_deck(config.cards, config.card_ratings)))
    mark = config.contaminated and ("contaminated", CONTAMINATED)
    return tuple(line for line in (cards, mark) if line)


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


def check_gpus(config: RunConfig, available: float) -> None:
    """Refuse a run that asks for more GPUs than there are.

    Raises:
        ConfigError: names what was asked for and which keys ask.
    """
    wanted = gpus_wanted(config)
    if wanted > available:
        raise ConfigError(
            f"{wanted:g} GPUs asked for, {available:g} there; lower num_engines x engine.gpus_per_engine + "
            "roles.num_engines x roles.engine.gpus_per_engine + "
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


def _check_role_models(config: RunConfig, *, weights: bool) -> None:
    """Check the models that are served for roles as the policy is checked."""
    roles = config.roles
    for name, player in roles.asked.items():
        if isinstance(player, str) and player.startswith(VLLM_PREFIX):
            model = player.removeprefix(VLLM_PREFIX)
            key = f"roles.{name}"
            facts = read_policy_facts(fetch_policy(model, weights=weights, key=key), key)
            check_context(facts, roles.engine.max_model_len, "roles.engine.max_model_len")


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
