"""What a service deploys, as plain values: models, settings, replicas. Starts nothing."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path

from mica_ray import checks
from mica_ray.lora.folder import adapter_rank
from mica_ray.safety.check import CareCheck, NoCare
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.judge_spec import JudgeSpec
from mica_ray.serving.model_replica import ModelSpec

MAX_MODELS = 8
"""Models of one service. The page compares two of them side by side."""


@dataclass(frozen=True, slots=True)
class SharedEngine:
    """An engine, the models that it serves, and their adapters."""

    base: ModelSpec
    """How the engine is started; without an adapter."""
    models: tuple[ModelSpec, ...]

    @property
    def adapters(self) -> dict[str, str]:
        """Folders of adapters by model id."""
        return {model.id: model.adapter for model in self.models if model.adapter}


@dataclass(frozen=True, slots=True)
class Replicas:
    """The number of replicas of each model, and their load."""

    at_least: int = 1
    at_most: int = 1
    """More than `at_least`: Ray Serve starts and stops replicas with the load."""
    target_ongoing: float = 32.0
    """Concurrent requests of one replica that the autoscaling aims at."""
    max_ongoing: int = 128
    """Concurrent requests that one replica accepts; more wait in a queue."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        checks.at_least(1, at_least=self.at_least)
        if self.at_most < self.at_least:
            raise ValueError(f"at_most must be >= at_least ({self.at_least}), got {self.at_most}.")
        if not 0 < self.target_ongoing <= self.max_ongoing:
            raise ValueError(
                f"target_ongoing must be in (0, max_ongoing = {self.max_ongoing}], got {self.target_ongoing}."
            )

    @property
    def are_scaled(self) -> bool:
        """Whether their number follows the load."""
        return self.at_most > self.at_least


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate and key with which the service speaks HTTPS, as PEM files."""

    file: Path
    """The chain, the service's own certificate first."""
    key: Path
    """Without a password."""

    def __post_init__(self) -> None:
        """Check that both files can be read and belong to each other."""
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                self.file, self.key, password=""
            )
        except (OSError, ValueError) as error:
            raise ValueError(
                f"certificate {self.file} and key {self.key} cannot be used ({error}). Name a PEM file and "
                "its key without a password."
            ) from error


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One service."""

    models: tuple[ModelSpec, ...]
    """The first one answers requests that name no model."""
    settings: ServeSettings = field(default_factory=ServeSettings)
    replicas: Replicas = field(default_factory=Replicas)
    care: CareCheck = field(default_factory=NoCare)
    judge: JudgeSpec | None = None
    """Estimates the need state in support sessions; None: no estimate."""
    is_ray_llm: bool = False
    """Whether ray.serve.llm runs the models (serving/ray_llm.py) instead of our own replicas."""

    def __post_init__(self) -> None:
        """Check the models and that a judge has sessions to judge."""
        names = [model.id for model in self.models]
        if not 1 <= len(names) <= MAX_MODELS or len(set(names)) < len(names):
            raise ValueError(
                f"models must be 1 to {MAX_MODELS} models with different ids, "
                f"got {', '.join(names) or 'none'}."
            )
        if any(model.adapter and (self.is_ray_llm or model.sampler != "vllm") for model in self.models):
            raise ValueError(
                "Only the sampler vllm serves adapters without merging them. Set sampler = vllm."
            )
        if self.judge is not None and not self.settings.sessions:
            raise ValueError(
                "A judge needs support sessions, whose need state it estimates. Set sessions = true."
            )

    @property
    def engines(self) -> tuple[SharedEngine, ...]:
        """The engines of the models: one for each, or one for an adapted model and its adapters.

        Models with other settings of their engine do not share it.
        """
        sharing: dict[object, list[ModelSpec]] = {}
        for model in self.models:
            sharing.setdefault((model.path, model.engine, model.sampler), []).append(model)
        groups: list[list[ModelSpec]] = []
        for models in sharing.values():
            is_adapted = any(model.adapter for model in models)
            groups += [models] if is_adapted else [[model] for model in models]
        return tuple(_engine_for(tuple(models)) for models in groups)

    @property
    def local_engine(self) -> SharedEngine | None:
        """The engine that the web application's process talks to, in a process of its own.

        Only the single replica of a single engine does: without calls between replicas it answers a third
        more requests. `engine.backend=in_process` moves even this one into a replica of its own.
        """
        first, *others = self.engines
        if others or self.replicas.at_most > 1 or self.is_ray_llm:
            return None
        base = first.base
        if base.sampler != "vllm" or base.engine.backend == "in_process":
            return None
        return replace(first, base=replace(base, engine=replace(base.engine, backend="async")))

    @property
    def cpus(self) -> float:
        """CPUs for all replicas, twice: a redeployment runs the old and the new ones."""
        cpus = sum(one.base.engine.cpus_per_engine for one in self.engines) * self.replicas.at_most
        if self.judge is not None and self.judge.model is not None:
            cpus += self.judge.model.engine.cpus_per_engine * self.judge.config.roles.num_engines
        return cpus * 2


def _engine_for(models: tuple[ModelSpec, ...]) -> SharedEngine:
    """Return the engine that serves models of one path, with room for all of their adapters."""
    first = models[0]
    adapters = [model.adapter for model in models if model.adapter]
    if not adapters:
        return SharedEngine(first, models)
    rank = max(adapter_rank(Path(folder)) for folder in adapters)
    # The model itself is served with an adapter that changes nothing (rollout/adapters/vllm_adapters.py).
    slots = len(adapters) + any(not model.adapter for model in models)
    engine = replace(first.engine, lora_rank=rank, lora_slots=slots)
    return SharedEngine(replace(first, adapter="", engine=engine), models)
