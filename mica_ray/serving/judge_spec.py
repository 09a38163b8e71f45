"""The judge of support sessions, and its model if this service runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mica_ray.config.role_config import SCRIPTED
from mica_ray.config.run_config import RunConfig
from mica_ray.launch.world import check_roles
from mica_ray.serving.model_replica import ModelSpec


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """The judge of one service."""

    config: RunConfig
    """Its domain and its judge are used; its other roles are not."""
    model: ModelSpec | None = None
    """The judge's own model, deployed next to the served ones; None if the judge runs elsewhere."""


def judge_spec(
    config: RunConfig,
    environment: Mapping[str, str],
    *,
    sampler: Literal["vllm", "transformers"] = "vllm",
    fetch: Callable[[str], str | Path] = str,
) -> JudgeSpec:
    """Describe the judge of a config.

    Args:
        config: with the judge among its roles.
        environment: environment variables, with the API key of an endpoint.
        sampler: of a judge `vllm:MODEL`.
        fetch: returns the folder of that MODEL; by default MODEL is used as it is.

    Raises:
        ConfigError: the API key of the endpoint is not set, or the model does not exist.
    """
    roles = config.roles.model_copy(update={"actor": SCRIPTED, "director": SCRIPTED})
    check_roles(roles, environment)
    model = None
    for name in roles.served_models:  # At most one: the judge's.
        model = ModelSpec(
            id=f"judge {name}",
            path=str(fetch(name)),
            engine=roles.engine,
            sampler=sampler,
            template_arguments=roles.chat_template_arguments,
        )
    return JudgeSpec(config.model_copy(update={"roles": roles}), model)
