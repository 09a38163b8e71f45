"""Check everything that can be checked before a run starts. Starts and writes nothing."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import EMBEDDED, VLLM_PREFIX, Seat
from mica_ray.config.run_config import RunConfig
from mica_ray.dialogue.domain import Domain
from mica_ray.embedded.recipe import EmbeddedPolicyRecipe
from mica_ray.launch.checked_run import CheckedRun
from mica_ray.launch.domain_source import RunDomain, check_embedded_domain, read_domain
from mica_ray.launch.memory.machine import MachineMemory
from mica_ray.launch.memory.processes import Model, run_checkpoint_bytes
from mica_ray.launch.memory.room import check_room
from mica_ray.launch.model_folder.check import ModelUse, check_model_folder
from mica_ray.launch.plan import gpus_wanted
from mica_ray.launch.policy_source import (
    PolicyFacts,
    check_context,
    embedded_facts,
    fetch_policy,
    is_here,
    read_policy_facts,
)
from mica_ray.launch.world import check_roles

_GIB = 2**30
_SPARE_DISK = 2 * _GIB
"""Bytes kept free next to the checkpoints: metrics, dialogues, MLflow, Ray's own files."""


def check_run(
    config: RunConfig,
    *,
    inline: bool,
    environment: Mapping[str, str],
    gpus_here: int | None,
    machine: MachineMemory | None = None,
    weights: bool = False,
    trains: bool = True,
    learns: bool = True,
    loaded: RunDomain | None = None,
) -> CheckedRun:
    """Check a run as far as possible without starting it.

    Args:
        config: of the run.
        inline: whether it runs in this process.
        environment: variables that contain the API keys of endpoints.
        gpus_here: GPUs of this machine; None if the run joins a cluster, whose GPUs are counted then.
        machine: its memory; None if it is not known, and not checked.
        weights: whether to download the weights of hub models, after all other checks of the model.
        trains: whether to check what only training on this config's scenarios needs. False for a benchmark,
            which chooses its scenarios itself.
        learns: whether a learner updates the policy, so that its weights must not be quantized.
        loaded: domain of the config, if it is already loaded.

    Raises:
        ConfigError: one line for the first problem.
    """
    loaded = loaded or read_domain(config)
    if trains:
        _check_scenarios(config, loaded.played)
    if config.repeat_judging is not None and loaded.declared.potential is not None:
        raise ConfigError(
            f"repeat_judging needs a judge of levels, but domain {loaded.declared.name} is scored by a "
            "potential. Set repeat_judging=null."
        )
    if config.policy == EMBEDDED:
        check_embedded_domain(loaded.declared)
    check_roles(config.roles, environment)
    if config.evaluation_roles is not None:
        check_roles(config.evaluation_roles, environment, key="evaluation_roles")
    if trains:
        _check_mini_batches(config)
    facts = check_policy(config, inline=inline, trains=trains, learns=learns, weights=weights)
    if trains and not inline:
        _check_processes(config, gpus_here)
    served = {
        model: check_role_model(config, name, model, inline=inline, weights=weights)
        for name, model in vllm_roles(config).items()
    }
    checked = CheckedRun(
        config=config,
        inline=inline,
        loaded=loaded,
        facts=facts,
        served=served,
        machine=machine or MachineMemory(),
    )
    if trains:
        check_disk(config, facts.model, inline=inline)
    if trains and learns:
        check_room(config, lambda changed: replace(checked, config=changed).memory)
    return checked


def _check_scenarios(config: RunConfig, domain: Domain) -> None:
    if config.cards is not None and not domain.split("train"):
        raise ConfigError(
            f"cards {config.cards}: every card whose P_0 is known is an official EMPA test case. "
            "Rate more cards with `mica data rate`, or set allow_test_cards=true, which "
            "marks the run as contaminated."
        )
    for split in ("train", config.evaluation.split):
        if not domain.split(split):
            raise ConfigError(
                f"Domain {domain.name} has no scenarios in split {split!r}. Add some to its scenario file."
            )


def _check_mini_batches(config: RunConfig) -> None:
    if config.learner.mini_batches > config.loop.scenarios_per_step:
        raise ConfigError(
            f"learner.mini_batches must be <= loop.scenarios_per_step ({config.loop.scenarios_per_step}), "
            f"got {config.learner.mini_batches}. Lower it, or raise loop.scenarios_per_step."
        )


def _check_model(model: str, needed: Mapping[str, int], use: ModelUse, *, weights: bool) -> PolicyFacts:
    """Check the files of a model; weights are downloaded last, once everything else fits.

    Args:
        model: "embedded", a hub id or a folder.
        needed: tokens of context by the config key that asks for them.
        use: what the model is for.
        weights: whether to download the weights.
    """
    key = use.key
    if key == "policy" and model == EMBEDDED:
        facts = embedded_facts(EmbeddedPolicyRecipe())
        _check_contexts(facts, needed)
        return facts
    is_local = is_here(model)
    facts = read_policy_facts(fetch_policy(model, weights=False, key=key), key)
    _check_contexts(facts, needed)
    check_model_folder(facts.folder, use, has_weights=is_local)
    if is_local or not weights:
        return facts
    facts = read_policy_facts(fetch_policy(model, weights=True, key=key), key)
    check_model_folder(facts.folder, use)
    return facts


def _check_contexts(facts: PolicyFacts, needed: Mapping[str, int]) -> None:
    for key, tokens in needed.items():
        check_context(facts, tokens, key)


def check_policy(
    config: RunConfig, *, inline: bool, trains: bool = True, learns: bool = True, weights: bool = False
) -> PolicyFacts:
    """Check the files of the policy and its context.

    Args:
        config: of the run.
        inline: whether transformers generates, instead of vLLM.
        trains: as for `check_run`.
        learns: as for `check_run`.
        weights: whether to download the weights of a hub model.

    Raises:
        ConfigError: the first fault.
    """
    needed = {"rollout.context_length": config.rollout.context_length}
    if trains and not inline:
        needed["engine.max_model_len"] = config.engine.max_model_len
    use = ModelUse(
        loader="transformers" if inline else "vllm",
        is_trained=trains and learns,
        template_arguments=config.chat_template_arguments,
        history=config.rollout.history,
    )
    return _check_model(config.policy, needed, use, weights=weights)


def vllm_roles(config: RunConfig) -> Mapping[Seat, str]:
    """Return the model, a folder or hub id, of each role that vLLM serves."""
    players = config.roles.players.items()
    return {
        name: player.removeprefix(VLLM_PREFIX)
        for name, player in players
        if isinstance(player, str) and player.startswith(VLLM_PREFIX)
    }


def check_role_model(
    config: RunConfig, name: Seat, model: str, *, inline: bool, weights: bool = False
) -> PolicyFacts:
    """Check the files of a model that vLLM serves for a role.

    Raises:
        ConfigError: the first fault.
    """
    roles = config.roles
    use = ModelUse(
        key=f"roles.{name}",
        loader="transformers" if inline else "vllm",
        template_arguments=roles.chat_template_arguments,
    )
    return _check_model(
        model, {"roles.engine.max_model_len": roles.engine.max_model_len}, use, weights=weights
    )


def _check_processes(config: RunConfig, gpus_here: int | None) -> None:
    """Check what only a run with engines and workers on Ray needs."""
    if config.rollout.context_length > config.engine.max_model_len:
        raise ConfigError(
            f"rollout.context_length must be <= engine.max_model_len ({config.engine.max_model_len}), "
            f"got {config.rollout.context_length}. Raise engine.max_model_len as well."
        )
    if gpus_here is not None:
        check_gpus(config, gpus_here)
    if config.dashboard_port is not None:
        check_port(config.dashboard_port, "dashboard_port")


def check_gpus(config: RunConfig, available: float) -> None:
    """Check that there are as many GPUs as the run needs.

    Raises:
        ConfigError: with both numbers and the keys that decide.
    """
    wanted = gpus_wanted(config)
    if wanted > available:
        raise ConfigError(
            f"The run needs {wanted:g} GPUs, {available:g} available. "
            "Lower num_engines x engine.gpus_per_engine, "
            "roles.num_engines x roles.engine.gpus_per_engine or ray_learner.num_workers x "
            "ray_learner.gpus_per_worker, or set RAY_ADDRESS to a larger cluster."
        )


def check_port(port: int, key: str) -> None:
    """Check that a port is free.

    Raises:
        ConfigError: with port and key.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                f"{key}: port {port} is already in use. Set {key}=PORT to another one."
            ) from error


def check_disk(config: RunConfig, policy: Model, *, inline: bool) -> tuple[Path, int]:
    """Check that the disk of the run folder has room for the kept checkpoints and the one being written.

    Returns:
        The folder, or the one in which it will be created, and the free bytes of its disk.

    Raises:
        ConfigError: with both sizes.
    """
    folder = (config.out or Path("runs")).absolute()
    while not folder.exists():
        folder = folder.parent
    each = run_checkpoint_bytes(config, policy, inline=inline)
    checkpoints = each * (config.loop.keep_checkpoints + 1)
    free = shutil.disk_usage(folder).free
    if free < _SPARE_DISK + checkpoints:
        raise ConfigError(
            f"{folder}: the run needs {(_SPARE_DISK + checkpoints) / _GIB:.1f} GiB of disk, "
            f"{free / _GIB:.1f} GiB free. Free some space, or set out=FOLDER on another disk."
        )
    return folder, free
