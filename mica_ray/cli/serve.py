"""`mica serve`: bring a service of one or two models up on Ray Serve, and end it gracefully."""

from __future__ import annotations

import ipaddress
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from mica_ray.cli.recipes import read_model
from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import build_dataclass, override, read_value
from mica_ray.config.role_config import EMBEDDED
from mica_ray.files import write_json
from mica_ray.launch import run
from mica_ray.launch.cluster import join_ray, joins_cluster
from mica_ray.launch.policy_source import fetch_policy
from mica_ray.runs.registration import REGISTERED, fetch_registered
from mica_ray.safety.check import CareCheck, HelpLines, NoCare
from mica_ray.safety.rules import CareRules, RuleCare
from mica_ray.serving.http.api_keys import KeyFile
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.judge_spec import JudgeSpec, judge_spec
from mica_ray.serving.model_replica import ModelSpec
from mica_ray.serving.proxy import choose_proxy
from mica_ray.serving.service_spec import Replicas, ServiceSpec

_PREFIX = "serve."
"""Before the keys of ServeSettings in --set; all others are the run's."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says beside the models."""

    host: str
    port: int
    keys_file: Path | None
    replicas: int
    max_replicas: int | None
    judge: str | None
    help_lines: Path | None
    has_care: bool
    sampler: str
    """"vllm", "transformers" or "ray-llm"."""


def run_serve(
    models: Sequence[str],
    options: ServeOptions,
    *,
    assignments: Sequence[str],
    dry_run: bool,
    json_file: Path | None,
) -> None:
    """Serve until interrupted.

    Raises:
        ConfigError: one line for what cannot be done; nothing was started.
    """
    console = Console()
    begin = time.perf_counter()
    configs = _configs(models, [a for a in assignments if not a.startswith(_PREFIX)])
    settings = _settings(configs[0], options, [a for a in assignments if a.startswith(_PREFIX)])
    _check_binding(options)
    spec = _spec(models, configs, options, settings, is_dry=dry_run)
    _show_plan(console, spec, options)
    if json_file is not None:
        write_json(json_file, _record(spec, options))
    if dry_run:
        return
    _serve(console, spec, configs[0], options, begin)


def _serve(
    console: Console, spec: ServiceSpec, config: RunConfig, options: ServeOptions, begin: float
) -> None:
    if not joins_cluster():
        choose_proxy()
    leave = join_ray(cpus=spec.cpus)
    from mica_ray.serving.ray_app import end_service, serve_application

    stopped = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: stopped.set())
    try:
        with console.status("starting replicas"):
            serve_application(spec, host=options.host, port=options.port)
        host = f"[{options.host}]" if ":" in options.host else options.host
        console.print(
            f"http://{host}:{options.port}/ answers after {time.perf_counter() - begin:.0f} s; "
            "Ctrl-C finishes what has begun and ends it",
            highlight=False,
            soft_wrap=True,
        )
        stopped.wait()
        with console.status("finishing replies"):
            end_service()
    finally:
        leave()


def _configs(models: Sequence[str], assignments: Sequence[str]) -> list[RunConfig]:
    return [
        override(RunConfig(policy=str(fetch_registered(model))), assignments)
        if model.startswith(REGISTERED)
        else read_model(model, assignments)
        for model in models
    ]


def _settings(config: RunConfig, options: ServeOptions, assignments: Sequence[str]) -> ServeSettings:
    """Give the bounds: the run's own sampling where nothing is said."""
    sampling = config.rollout.sampling
    fields: dict[str, object] = {
        "keys_file": options.keys_file,
        "default_temperature": sampling.temperature,
        "default_reply_tokens": sampling.max_tokens,
        "max_reply_tokens": max(ServeSettings().max_reply_tokens, sampling.max_tokens),
    }
    for assignment in assignments:
        key, separator, value = assignment.removeprefix(_PREFIX).partition("=")
        if not separator:
            raise ConfigError(f"--set {assignment}: write --set serve.key=value")
        fields[key] = [origin for origin in value.split(",") if origin] if key == "cors_origins" else value
    try:
        settings = build_dataclass(ServeSettings, fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"serve.{key or 'settings'}: {first['msg'].removeprefix('Value error, ')}"
        ) from error
    assert isinstance(settings, ServeSettings)
    return settings


def _check_binding(options: ServeOptions) -> None:
    """Let nobody in from outside without a key.

    Raises:
        ConfigError: the address is reachable from elsewhere and there is no good key.
    """
    try:
        keys = None if options.keys_file is None else KeyFile(options.keys_file).records()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if keys is not None and not any(key.revoked is None for key in keys):
        raise ConfigError(
            f"{options.keys_file}: no good key; make one by "
            f"`mica serve-key add NAME --file {options.keys_file}`"
        )
    if keys is None and not _is_loopback(options.host):
        raise ConfigError(
            f"--host {options.host}: reachable from other machines without a key; give --api-key-file FILE, "
            "or --host 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _spec(
    models: Sequence[str],
    configs: Sequence[RunConfig],
    options: ServeOptions,
    settings: ServeSettings,
    *,
    is_dry: bool,
) -> ServiceSpec:
    names = _names(models)
    try:
        return ServiceSpec(
            models=tuple(
                _model(name, config, options, is_dry=is_dry)
                for name, config in zip(names, configs, strict=True)
            ),
            settings=settings,
            replicas=Replicas(options.replicas, options.max_replicas or options.replicas),
            care=_care(options),
            judge=None
            if options.judge is None
            else _judge(options.judge, configs[0], options, is_dry=is_dry),
            is_ray_llm=options.sampler == "ray-llm",
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _model(name: str, config: RunConfig, options: ServeOptions, *, is_dry: bool) -> ModelSpec:
    checked = run.check(config, inline=True, weights=not is_dry)
    path = config.policy if is_dry else str(run.policy_folder(checked))
    return ModelSpec(
        id=name,
        path=path,
        engine=config.engine,
        sampler=_sampler(options),
        template_arguments=config.chat_template_arguments,
        system_prompt=checked.domain.policy_prompt,
        created=int(time.time()),
    )


def _judge(judge: str, config: RunConfig, options: ServeOptions, *, is_dry: bool) -> JudgeSpec:
    def fetch(model: str) -> Path:
        return fetch_policy(model, weights=not is_dry, key="--judge")

    judged = override(config, [], values={"roles.judge": read_value(judge)})
    return judge_spec(judged, os.environ, sampler=_sampler(options), fetch=fetch)


def _sampler(options: ServeOptions) -> Literal["vllm", "transformers"]:
    return "transformers" if options.sampler == "transformers" else "vllm"


def _names(models: Sequence[str]) -> list[str]:
    """Give short names that clients send: the last part of each path, told apart where they are equal."""
    names = [
        model.removeprefix(REGISTERED).replace("/", "-").replace("@", "-")
        if model.startswith(REGISTERED)
        else Path(model).name or EMBEDDED
        for model in models
    ]
    return [f"{name}-{i + 1}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _care(options: ServeOptions) -> CareCheck:
    if not options.has_care:
        return NoCare()
    lines = HelpLines() if options.help_lines is None else HelpLines.read(options.help_lines)
    return RuleCare(CareRules.read(), lines)


def _show_plan(console: Console, spec: ServiceSpec, options: ServeOptions) -> None:
    table = Table(title="service", show_header=False)
    for subject, statement in _plan(spec, options):
        table.add_row(subject, statement)
    console.print(table)


def _plan(spec: ServiceSpec, options: ServeOptions) -> list[tuple[str, str]]:
    settings, replicas = spec.settings, spec.replicas
    copies = f"{replicas.at_least} to {replicas.at_most}" if replicas.are_scaled else str(replicas.at_least)
    kept = "not kept"
    if settings.sessions:
        place = "in memory" if settings.sessions_file is None else f"in {settings.sessions_file}"
        kept = f"kept {place} for {settings.session_seconds:g} s after their last message"
    return [
        *[("model", f"{model.id}: {model.path}") for model in spec.models],
        ("address", f"{options.host}:{options.port}"),
        ("replicas", f"{copies} of each, {options.sampler}"),
        ("keys", "none: this machine alone" if settings.keys_file is None else str(settings.keys_file)),
        ("rate", f"{settings.requests_per_minute} requests a minute of each key"),
        ("sessions", kept),
        ("need state", "not estimated" if spec.judge is None else f"by {spec.judge.config.roles.judge}"),
        ("care check", "off" if not options.has_care else "on"),
    ]


def _record(spec: ServiceSpec, options: ServeOptions) -> dict[str, object]:
    settings = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(spec.settings).items()}
    return {
        "host": options.host,
        "port": options.port,
        "models": [{"id": model.id, "path": model.path} for model in spec.models],
        "replicas": asdict(spec.replicas),
        "judge": None if spec.judge is None else str(spec.judge.config.roles.judge),
        "settings": settings,
    }
