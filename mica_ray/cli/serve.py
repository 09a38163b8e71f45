"""`mica serve`: start a service of one or several models on Ray Serve, and stop it gracefully."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from mica_ray.cli.options import ROLE_FORMS, DryRunOption, JsonFileOption, SetOption, TrustOption, save_json

if TYPE_CHECKING:
    from mica_ray.config import RunConfig
    from mica_ray.safety.check import CareCheck
    from mica_ray.serving.http.settings import ServeSettings
    from mica_ray.serving.judge_spec import JudgeSpec
    from mica_ray.serving.model_replica import ModelSpec
    from mica_ray.serving.service_spec import Certificate, ServiceSpec

_PREFIX = "serve."
"""Prefix of the keys of ServeSettings in --set; all other keys belong to the run's config."""

Sampler = Literal["vllm", "transformers", "ray-llm"]


def serve_command(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="The models: a run folder, models:/NAME/VERSION or models:/NAME@ALIAS from MLflow, a "
            "model folder, a Hugging Face id, or `embedded`.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on. Other machines need --api-key-file.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keys from `mica serve-key add`. Requests without a key are refused."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificate chain (PEM): serve HTTPS. Needs --tls-key."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Key of --tls-cert (PEM), without a password.")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Copies of each model.")] = 1,
    max_replicas: Annotated[
        int | None,
        typer.Option(min=1, help="If above --replicas, the number of copies follows the load up to this."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help=f"The judge that estimates the user's state in sessions: {ROLE_FORMS}."),
    ] = None,
    help_lines: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON file of texts, by locale, that begin the answer to someone in danger. Default: a text "
            "without phone numbers.",
        ),
    ] = None,
    care: Annotated[bool, typer.Option(help="Check messages for signs of acute danger.")] = True,
    sampler: Annotated[
        Sampler,
        typer.Option(
            metavar="NAME", help="`vllm`, `transformers` for a quick look, or `ray-llm` (ray.serve.llm)."
        ),
    ] = "vllm",
    sets: SetOption = None,
    dry_run: DryRunOption = False,
    json_file: JsonFileOption = None,
    trust: TrustOption = False,
) -> None:
    """Serve models to OpenAI clients, with a web page to try them.

    Runs that trained adapters of one base model share its engine.

    Limits of the service are keys under `serve.`:
    --set serve.requests_per_minute=60, --set serve.sessions=true.
    """
    from mica_ray.config import ConfigError
    from mica_ray.launch.shared_base import shared_bases
    from mica_ray.serving.http.binding import check_binding
    from mica_ray.serving.http.own_files import check_files
    from mica_ray.serving.service_spec import Replicas, ServiceSpec

    console = Console()
    begin = time.perf_counter()
    assignments = sets or []
    configs = _configs(models, [text for text in assignments if not text.startswith(_PREFIX)])
    own_keys = [text for text in assignments if text.startswith(_PREFIX)]
    settings = _settings(configs[0], api_key_file, own_keys)
    names = _names(models)
    bases: Mapping[str, Path] = {}
    if sampler == "vllm":
        bases = shared_bases([config.policy for config in configs], weights=not dry_run)
    try:
        certificate = _certificate(tls_cert, tls_key)
        check_binding(host, settings.keys_file)
        check_files(settings)
        spec = ServiceSpec(
            models=tuple(
                _model(name, config, sampler, bases.get(config.policy), is_dry=dry_run)
                for name, config in zip(names, configs, strict=True)
            ),
            settings=settings,
            replicas=Replicas(replicas, max_replicas or replicas),
            care=_care(help_lines, is_on=care),
            judge=None if judge is None else _judge(judge, configs[0], sampler, is_dry=dry_run),
            is_ray_llm=sampler == "ray-llm",
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
    table = Table(title="service", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for subject, statement in _plan(spec, host, port, sampler=sampler, has_care=care):
        table.add_row(subject, statement)
    console.print(table)
    save_json(json_file, _record(spec, host, port))
    if not dry_run:
        _serve(console, spec, host, port, begin, certificate)


def _certificate(file: Path | None, key: Path | None) -> Certificate | None:
    from mica_ray.serving.service_spec import Certificate

    if file is None and key is None:
        return None
    if file is None or key is None:
        missing = "--tls-cert" if file is None else "--tls-key"
        raise ValueError(f"{missing} is missing. HTTPS needs both --tls-cert and --tls-key.")
    return Certificate(file, key)


def _serve(
    console: Console, spec: ServiceSpec, host: str, port: int, begin: float, certificate: Certificate | None
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in progress."""
    from mica_ray.launch.cluster import join_ray, joins_cluster
    from mica_ray.serving.proxy import choose_proxy

    if not joins_cluster():
        choose_proxy(has_tls=certificate is not None)
    leave = join_ray(cpus=spec.cpus)
    from mica_ray.serving.ray_app import end_service, serve_application

    stopped = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: stopped.set())
    try:
        with console.status("starting replicas"):
            serve_application(spec, host=host, port=port, certificate=certificate)
        address = f"[{host}]" if ":" in host else host
        scheme = "http" if certificate is None else "https"
        console.print(
            f"{scheme}://{address}:{port}/ answers after {time.perf_counter() - begin:.0f} s. "
            "Ctrl-C finishes the requests in progress and stops the service.",
            highlight=False,
            soft_wrap=True,
        )
        stopped.wait()
        with console.status("finishing replies"):
            end_service()
    finally:
        leave()


def _configs(models: Sequence[str], assignments: Sequence[str]) -> list[RunConfig]:
    from mica_ray.cli.recipes import read_model
    from mica_ray.config.overrides import override
    from mica_ray.runs.registration import REGISTERED, registered_config

    return [
        override(registered_config(model), assignments)
        if model.startswith(REGISTERED)
        else read_model(model, assignments)
        for model in models
    ]


def _settings(config: RunConfig, keys_file: Path | None, assignments: Sequence[str]) -> ServeSettings:
    """Return the limits of the service; sampling defaults to that of the run."""
    from mica_ray.config import ConfigError
    from mica_ray.config.overrides import build_dataclass
    from mica_ray.serving.http.settings import ServeSettings

    sampling = config.rollout.sampling
    fields: dict[str, object] = {
        "keys_file": keys_file,
        "default_temperature": sampling.temperature,
        "default_reply_tokens": sampling.max_tokens,
        "max_reply_tokens": max(ServeSettings().max_reply_tokens, sampling.max_tokens),
    }
    for assignment in assignments:
        key, separator, value = assignment.removeprefix(_PREFIX).partition("=")
        if not separator:
            raise ConfigError(f"--set {assignment}: has no value. Write --set serve.key=value.")
        fields[key] = [origin for origin in value.split(",") if origin] if key == "cors_origins" else value
    try:
        settings = build_dataclass(ServeSettings, fields)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"serve.{str(error).removeprefix('ServeSettings: ')}") from error
    assert isinstance(settings, ServeSettings)
    return settings


def _model(name: str, config: RunConfig, sampler: Sampler, base: Path | None, *, is_dry: bool) -> ModelSpec:
    """Return a model; one with a base model shares the engine of that."""
    from mica_ray.config.role_config import RoleConfig
    from mica_ray.launch import run
    from mica_ray.serving.model_replica import ModelSpec

    # A service plays no roles, so it needs none of their keys, and neither scenarios nor a learner.
    config = config.model_copy(update={"roles": RoleConfig()})
    adapter = ""
    if base is not None:
        adapter = str(Path(config.policy).expanduser().resolve())
        config = config.model_copy(update={"policy": str(base)})
    checked = run.check(config, inline=sampler == "transformers", weights=not is_dry, trains=False)
    return ModelSpec(
        id=name,
        path=config.policy if is_dry else str(run.policy_folder(checked)),
        adapter=adapter,
        engine=config.engine,
        sampler=_engine_of(sampler),
        template_arguments=config.chat_template_arguments,
        history=config.rollout.history,
        system_prompt=checked.domain.policy_prompt,
        created=int(time.time()),
    )


def _judge(judge: str, config: RunConfig, sampler: Sampler, *, is_dry: bool) -> JudgeSpec:
    from mica_ray.config.overrides import override, read_value
    from mica_ray.launch.model_folder.check import ModelUse, check_model_folder
    from mica_ray.launch.policy_source import fetch_policy, is_here
    from mica_ray.serving.judge_spec import judge_spec

    def fetch(model: str) -> Path:
        folder = fetch_policy(model, weights=not is_dry, key="--judge")
        arguments = judged.roles.chat_template_arguments
        use = ModelUse(key="--judge", loader=_engine_of(sampler), template_arguments=arguments)
        check_model_folder(folder, use, has_weights=not is_dry or is_here(model))
        return folder

    judged = override(config, (), values={"roles.judge": read_value(judge)})
    return judge_spec(judged, os.environ, sampler=_engine_of(sampler), fetch=fetch)


def _engine_of(sampler: Sampler) -> Literal["vllm", "transformers"]:
    return "transformers" if sampler == "transformers" else "vllm"


def _names(models: Sequence[str]) -> list[str]:
    """Return the names that clients send: the last part of each path, numbered where two are equal."""
    from mica_ray.config.role_config import EMBEDDED
    from mica_ray.runs.registration import REGISTERED

    names = [
        model.removeprefix(REGISTERED).replace("/", "-").replace("@", "-")
        if model.startswith(REGISTERED)
        else Path(model).name or EMBEDDED
        for model in models
    ]
    return [f"{name}-{i + 1}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _care(help_lines: Path | None, *, is_on: bool) -> CareCheck:
    from mica_ray.safety.check import HelpLines, NoCare
    from mica_ray.safety.rules import CareRules, RuleCare

    if not is_on:
        return NoCare()
    return RuleCare(CareRules.read(), HelpLines() if help_lines is None else HelpLines.read(help_lines))


def _plan(
    spec: ServiceSpec, host: str, port: int, *, sampler: Sampler, has_care: bool
) -> list[tuple[str, str]]:
    settings, replicas = spec.settings, spec.replicas
    copies = f"{replicas.at_least} to {replicas.at_most}" if replicas.are_scaled else str(replicas.at_least)
    sessions = "off"
    if settings.sessions:
        place = "in memory" if settings.sessions_file is None else f"in {settings.sessions_file}"
        sessions = f"kept {place} for {settings.session_seconds:g} s after the last message"
    return [
        *[("model", f"{model.id}: {_source(model)}") for model in spec.models],
        ("address", f"{host}:{port}"),
        ("replicas", f"{copies} of each, {sampler}"),
        ("keys", "none: only this machine" if settings.keys_file is None else str(settings.keys_file)),
        ("rate limit", _rate_limit(settings)),
        ("sessions", sessions),
        ("need state", "not estimated" if spec.judge is None else f"by {spec.judge.config.roles.judge}"),
        ("care check", "on" if has_care else "off"),
    ]


def _source(model: ModelSpec) -> str:
    return f"{model.adapter}, an adapter of {model.path}" if model.adapter else model.path


def _rate_limit(settings: ServeSettings) -> str:
    if settings.keys_file is None:
        return "none"  # Requests are counted by key.
    return f"{settings.requests_per_minute} requests per minute and key"


def _record(spec: ServiceSpec, host: str, port: int) -> dict[str, object]:
    settings = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(spec.settings).items()}
    return {
        "host": host,
        "port": port,
        "models": [
            {"id": model.id, "path": model.path, "adapter": model.adapter or None, "history": model.history}
            for model in spec.models
        ],
        "replicas": asdict(spec.replicas),
        "judge": None if spec.judge is None else str(spec.judge.config.roles.judge),
        "settings": settings,
    }
