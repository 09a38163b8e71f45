"""Who estimates the need state in support sessions; its model too, where the service runs that."""

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
    """Whose judge and domain estimate; no other role of it is asked."""
    model: ModelSpec | None = None
    """The judge's own model, a deployment beside the served ones; None where it is asked elsewhere."""


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
        environment: variables among which an endpoint finds its key.
        sampler: of a judge `vllm:MODEL`.
        fetch: gives the folder of that MODEL; without, its name stands for it.

    Raises:
        ConfigError: the key of its endpoint is not set, or there is no such model.
    """
    roles = config.roles.model_copy(update={"actor": SCRIPTED, "director": SCRIPTED})
    check_roles(roles, environment)
    model = None
    for name in roles.served_models:  # One at most: the judge's.
        model = ModelSpec(
            id=f"judge {name}",
            path=str(fetch(name)),
            engine=roles.engine,
            sampler=sampler,
            template_arguments=roles.chat_template_arguments,
        )
    return JudgeSpec(config.model_copy(update={"roles": roles}), model)
