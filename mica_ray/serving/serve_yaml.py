"""The `args` of cluster/serve.yaml as a ServiceSpec, for `serve deploy` and KubeRay."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from mica_ray.config.overrides import build_dataclass, validated
from mica_ray.config.references import ConfigError, resolve
from mica_ray.config.run_config import RunConfig
from mica_ray.dialogue.domain import Domain
from mica_ray.rollout.engine_config import EngineConfig
from mica_ray.safety.check import HelpLines
from mica_ray.safety.rules import CareRules, RuleCare
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.judge_spec import JudgeSpec, judge_spec
from mica_ray.serving.model_replica import ModelSpec
from mica_ray.serving.service_spec import Replicas, ServiceSpec

_KEYS = ("models", "settings", "replicas", "help_lines", "judge", "roles")


def service(arguments: dict[str, object]) -> object:
    """Return the Ray Serve application: the import_path of cluster/serve.yaml."""
    from mica_ray.serving.ray_app import application

    return application(read_service(arguments))


def read_service(arguments: Mapping[str, object]) -> ServiceSpec:
    """Read the arguments of a service.

    Keys: models (each with id, path, domain, engine), settings, replicas, help_lines (a file), judge, roles.
    The judge is written as for `mica serve --judge` and uses the domain of the first model. `roles`
    configures its calls and its engine, as in a run's config.

    Raises:
        ConfigError: a key or value is invalid, or keys_file is missing: other machines reach a cluster.
    """
    for key in arguments:
        if key not in _KEYS:
            raise ConfigError(f"args.{key} is unknown. Valid keys are {', '.join(_KEYS)}.")
    help_file = arguments.get("help_lines")
    try:
        settings = build_dataclass(ServeSettings, _fields(arguments, "settings"))
        replicas = build_dataclass(Replicas, _fields(arguments, "replicas"))
        assert isinstance(settings, ServeSettings) and isinstance(replicas, Replicas)
        if settings.keys_file is None:
            raise ConfigError(
                "args.settings.keys_file is missing. Create keys with `mica serve-key add NAME --file KEYS`."
            )
        entries = cast(Sequence[Mapping[str, object]], arguments.get("models") or ())
        models = tuple(_model(entry) for entry in entries)
        return ServiceSpec(
            models=models,
            settings=settings,
            replicas=replicas,
            care=RuleCare(
                CareRules.read(), HelpLines() if help_file is None else HelpLines.read(Path(str(help_file)))
            ),
            judge=_judge(arguments, entries[0], models[0]) if "judge" in arguments and models else None,
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"args: {error}") from error


def _model(entry: Mapping[str, object]) -> ModelSpec:
    """Read a model; its `domain` determines the system prompt it was trained with."""
    fields = {key: text for key, text in entry.items() if key != "domain"}
    fields["engine"] = build_dataclass(EngineConfig, _fields(entry, "engine"))
    if "domain" in entry:
        domain = resolve(str(entry["domain"]))
        if not isinstance(domain, Domain):
            raise ConfigError(
                f"args.models: domain {entry['domain']} is not a Domain. Name one as module:NAME."
            )
        fields["system_prompt"] = domain.policy_prompt
    model = build_dataclass(ModelSpec, fields)
    assert isinstance(model, ModelSpec)
    return model


def _judge(arguments: Mapping[str, object], entry: Mapping[str, object], model: ModelSpec) -> JudgeSpec:
    """Read the judge; a judge vllm:MODEL has the sampler of the first model."""
    fields: dict[str, object] = {"roles": {**_fields(arguments, "roles"), "judge": arguments["judge"]}}
    if "domain" in entry:
        fields["domain"] = entry["domain"]
    try:
        config = validated(RunConfig, fields)
    except ConfigError as error:
        raise ConfigError(f"args: {error}") from error
    return judge_spec(config, os.environ, sampler=model.sampler)


def _fields(arguments: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = arguments.get(key) or {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"args.{key} must be a mapping of keys to values, got {type(found).__name__}.")
    return cast(Mapping[str, object], found)
