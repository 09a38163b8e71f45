"""What a service deploys, as plain values: models, settings, replicas. Starts nothing."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path

from mica_ray import checks
from mica_ray.safety.check import CareCheck, NoCare
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.judge_spec import JudgeSpec
from mica_ray.serving.model_replica import ModelSpec

MAX_MODELS = 2
"""The page compares two side by side; it has no view for more."""


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
        if self.judge is not None and not self.settings.sessions:
            raise ValueError(
                "A judge needs support sessions, whose need state it estimates. Set sessions = true."
            )

    @property
    def local_model(self) -> ModelSpec | None:
        """The model that runs in the web application's process, its engine in a process of its own.

        Only the single replica of a single model does: without calls between replicas it answers a third more
        requests. `engine.backend=in_process` moves even this one into a replica of its own.
        """
        model = self.models[0]
        is_single = len(self.models) == 1 and self.replicas.at_most == 1 and not self.is_ray_llm
        if not is_single or model.sampler != "vllm" or model.engine.backend == "in_process":
            return None
        return replace(model, engine=replace(model.engine, backend="async"))

    @property
    def cpus(self) -> float:
        """CPUs for all replicas, twice: a redeployment runs the old and the new ones."""
        cpus = sum(model.engine.cpus_per_engine for model in self.models) * self.replicas.at_most
        if self.judge is not None and self.judge.model is not None:
            cpus += self.judge.model.engine.cpus_per_engine * self.judge.config.roles.num_engines
        return cpus * 2
