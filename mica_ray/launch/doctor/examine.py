"""All checks of a run: `mica doctor` makes every one, `--dry-run` those that cost and start nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from mica_ray.config.references import ConfigError
from mica_ray.config.role_config import EMBEDDED, Seat
from mica_ray.config.run_config import RunConfig
from mica_ray.launch.checked_run import CheckedRun
from mica_ray.launch.cluster import gpus_here, joins_cluster
from mica_ray.launch.doctor.endpoints import DEADLINE_SECONDS, endpoints_of, probe_endpoint
from mica_ray.launch.doctor.finding import Check, Finding, run_checks
from mica_ray.launch.doctor.machine import (
    check_compiler,
    check_disks,
    check_gpu,
    check_memory,
    check_python,
)
from mica_ray.launch.doctor.services import check_ray, check_tracking
from mica_ray.launch.domain_source import check_embedded_domain, read_domain
from mica_ray.launch.memory.processes import Model
from mica_ray.launch.plan import describe_policy
from mica_ray.launch.policy_source import PolicyFacts
from mica_ray.launch.preflight import check_policy, check_role_model, vllm_roles
from mica_ray.launch.world import check_roles

_LONG_SECONDS = 300.0
"""Deadline of checks that import torch and transformers, or download the small files of a hub model."""
_RAY_SECONDS = 180.0


def examine(config: RunConfig, *, inline: bool, environment: Mapping[str, str], paid: bool) -> list[Finding]:
    """Check what a run needs, with real calls.

    Args:
        config: of the run.
        inline: whether it runs in one process, without Ray.
        environment: variables with API keys and addresses.
        paid: whether to send one request to each endpoint, which may cost money.
    """
    known: list[PolicyFacts] = []
    models = run_checks(_model_checks(config, inline=inline, known=known))
    policy = known[0].model if known else Model(parameters=None)
    machine = _machine_checks(config, policy, inline=inline, environment=environment, starts_ray=True)
    roles = _role_checks(config, inline=inline, environment=environment, paid=paid)
    return [*run_checks(machine), *models, *run_checks(roles)]


def examine_for_free(checked: CheckedRun, *, environment: Mapping[str, str]) -> list[Finding]:
    """Make the checks that cost and start nothing; `check_run` has checked models and roles before.

    Raises:
        ConfigError: the first check that failed.
    """
    policy, inline = checked.facts.model, checked.inline
    findings = run_checks(
        _machine_checks(checked.config, policy, inline=inline, environment=environment, starts_ray=False)
    )
    for finding in findings:
        if finding.status == "failed":
            raise ConfigError(finding.line)
    return findings


def _machine_checks(
    config: RunConfig,
    policy: Model,
    *,
    inline: bool,
    environment: Mapping[str, str],
    starts_ray: bool,
) -> Sequence[Check]:
    """Return the checks of this machine and of the services that a run uses."""
    is_here = not joins_cluster()
    compiler = partial(check_compiler, config, inline=inline, is_here=is_here, environment=environment)
    ray = partial(check_ray, config, inline=inline, environment=environment, starts=starts_ray)
    memory = Check("memory", partial(check_memory, config, policy, inline=inline), _LONG_SECONDS)
    return (
        Check("Python", partial(check_python, inline=inline)),
        Check("compiler", compiler),
        Check("disk", partial(check_disks, config, policy, inline=inline)),
        *([memory] if is_here else []),
        Check("GPUs", lambda: check_gpu(config, inline=inline, found=gpus_here()), _LONG_SECONDS),
        Check("Ray", ray, _RAY_SECONDS),
        Check("tracking", partial(check_tracking, config, creates=starts_ray), _LONG_SECONDS),
    )


def _model_checks(config: RunConfig, *, inline: bool, known: list[PolicyFacts]) -> Sequence[Check]:
    """Return the checks of domain and policy; what is found of the policy is added to `known`."""

    def domain() -> Finding:
        loaded = read_domain(config)
        if config.policy == EMBEDDED:
            check_embedded_domain(loaded.declared)
        counts = [f"{len(loaded.played.split(split))} {split}" for split in ("train", "valid", "test")]
        return Finding("domain", "ok", f"{loaded.played.name}: {', '.join(counts)} scenarios")

    def policy() -> Finding:
        known.append(check_policy(config, inline=inline))
        return Finding("policy", "ok", describe_policy(config, known[0]))

    return (Check("domain", domain, _LONG_SECONDS), Check("policy", policy, _LONG_SECONDS))


def _role_checks(
    config: RunConfig, *, inline: bool, environment: Mapping[str, str], paid: bool
) -> Sequence[Check]:
    """Return the checks of the role models: their folders, or one request to each endpoint."""

    def folder(name: Seat, model: str) -> Finding:
        facts = check_role_model(config, name, model, inline=inline)
        return Finding(f"roles.{name}", "ok", f"{facts.folder} ({facts.architecture})")

    def roles() -> Finding:
        check_roles(config.roles, environment)
        kinds = [f"{name} {role if isinstance(role, str) else type(role).__name__}" for name, role in sources]
        return Finding("roles", "ok", ", ".join(kinds))

    sources = config.roles.sources.items()
    checks = [Check("roles", roles)]
    for name, model in vllm_roles(config).items():
        checks.append(Check(f"roles.{name}", partial(folder, name, model), _LONG_SECONDS))
    for endpoint, names in endpoints_of(config) if paid else ():
        probe = partial(probe_endpoint, endpoint, names, config, environment)
        checks.append(Check(f"roles.{', roles.'.join(names)}", probe, DEADLINE_SECONDS))
    return checks
