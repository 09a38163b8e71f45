"""What is deployed, as values that travel to a cluster: models, bounds, how many copies. Starts nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mica_ray.safety.check import CareCheck, NoCare
from mica_ray.serving.http.settings import ServeSettings
from mica_ray.serving.judge_spec import JudgeSpec
from mica_ray.serving.model_replica import ModelSpec

MAX_MODELS = 2
"""Two are compared side by side; more have no page."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many copies of each model answer."""

    at_least: int = 1
    at_most: int = 1
    """More than `at_least`: Ray Serve starts and ends copies as requests come and go."""
    target_ongoing: float = 32.0
    """Requests of one copy at once which the number of copies aims at."""
    max_ongoing: int = 128
    """Requests that one copy takes at once; more wait before it."""

    def __post_init__(self) -> None:
        """Refuse numbers under which nobody would answer."""
        if self.at_least < 1:
            raise ValueError(f"at_least must be >= 1; got {self.at_least}")
        if self.at_most < self.at_least:
            raise ValueError(f"at_most must be >= at_least = {self.at_least}; got {self.at_most}")
        if not 0 < self.target_ongoing <= self.max_ongoing:
            raise ValueError(
                f"target_ongoing must be in (0, max_ongoing = {self.max_ongoing}]; got {self.target_ongoing}"
            )

    @property
    def are_scaled(self) -> bool:
        """Whether their number follows the load."""
        return self.at_most > self.at_least


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One service."""

    models: tuple[ModelSpec, ...]
    """The first is asked where a request names none."""
    settings: ServeSettings = field(default_factory=ServeSettings)
    replicas: Replicas = field(default_factory=Replicas)
    care: CareCheck = field(default_factory=NoCare)
    judge: JudgeSpec | None = None
    """Who estimates the need state in support sessions; None: nobody."""
    is_ray_llm: bool = False
    """Whether ray.serve.llm runs the models (ray_llm.py) instead of our own replicas."""

    def __post_init__(self) -> None:
        """Refuse what could not be told apart."""
        names = [model.id for model in self.models]
        if not 1 <= len(names) <= MAX_MODELS or len(set(names)) < len(names):
            raise ValueError(
                f"models must be 1 to {MAX_MODELS} of different ids; got {', '.join(names) or 'none'}"
            )
        if self.judge is not None and not self.settings.sessions:
            raise ValueError("judge: estimates the need state of support sessions alone; set sessions = true")

    @property
    def local_model(self) -> ModelSpec | None:
        """The model that is asked within the web application's process, its engine in a process of its own.

        So it is with one copy of one model, which then answers a third more requests: nothing passes between
        replicas. `engine.backend=in_process` keeps even that one in a replica apart.
        """
        model = self.models[0]
        is_alone = len(self.models) == 1 and self.replicas.at_most == 1 and not self.is_ray_llm
        if not is_alone or model.sampler != "vllm" or model.engine.backend == "in_process":
            return None
        return replace(model, engine=replace(model.engine, backend="async"))

    @property
    def cpus(self) -> float:
        """CPUs that Ray has to count for all copies, and for as many again during a redeployment."""
        cpus = sum(model.engine.cpus_per_engine for model in self.models) * self.replicas.at_most
        if self.judge is not None and self.judge.model is not None:
            cpus += self.judge.model.engine.cpus_per_engine * self.judge.config.roles.num_engines
        return cpus * 2
