"""From command-line arguments to a config: recipes, run folders, role models, overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from mica_ray.config import ConfigError, RunConfig
from mica_ray.config.overrides import explain, override
from mica_ray.config.references import resolve
from mica_ray.config.role_config import EMBEDDED
from mica_ray.runs.folder import RunFolder

CONFIG_NAME = "CONFIG"


def read_recipe(recipe: str | None) -> RunConfig:
    """Return the config of a recipe; None means the embedded run.

    A recipe is FILE.py, FILE.py:NAME or a stored config.json. NAME is a RunConfig, or a function without
    arguments that returns one. A stored config is used without its run folder, which holds the earlier run.

    Raises:
        ConfigError: the file or name does not exist, or holds something else.
    """
    if recipe is None:
        return RunConfig()
    if recipe.endswith(".json"):
        return RunConfig.read(Path(recipe)).model_copy(update={"out": None, "tracking_parent": None})
    if not recipe.rpartition(":")[0].endswith(".py") and not recipe.endswith(".py"):
        raise ConfigError(f"{recipe}: not a recipe. Use a .py file, FILE.py:NAME or a config.json.")
    try:
        found = resolve(recipe if ".py:" in recipe else f"{recipe}:{CONFIG_NAME}")
        config = found() if callable(found) and not isinstance(found, RunConfig) else found
    except ValidationError as error:
        raise ConfigError(f"{recipe}: {explain(error, RunConfig)}") from error
    if not isinstance(config, RunConfig):
        raise ConfigError(f"{recipe}: must be a RunConfig, got {type(config).__name__}.")
    return config


def read_config(recipe: str | None, assignments: Sequence[str], resume: Path | None) -> RunConfig:
    """Return the config of a training run.

    Raises:
        ConfigError: both a recipe and --resume, or an assignment that does not fit.
    """
    if resume is None:
        return override(read_recipe(recipe), assignments)
    if recipe is not None:
        raise ConfigError(
            f"--resume takes the config from the run folder, got the recipe {recipe} too. "
            "Leave it out, and change keys with --set."
        )
    return override(RunConfig.read(RunFolder.open(resume).config_file), assignments)


def read_model(
    model: str, assignments: Sequence[str], *, values: Mapping[str, object] | None = None
) -> RunConfig:
    """Return the config for a model to evaluate, serve or talk to; a run folder uses its own config.

    Args:
        model: a run folder, a model folder, a hub id, or "embedded".
        assignments: `--set` of the command, applied last.
        values: other values of the command by dotted key.

    Raises:
        ConfigError: a run without a checkpoint, or an assignment that does not fit.
    """
    path = Path(model).expanduser()
    if model == EMBEDDED or not RunFolder.holds_run(path):
        return override(RunConfig(policy=model), assignments, values=values)
    policies = sorted((path / "checkpoints").glob("step-*/learner/policy"))
    if not policies:
        raise ConfigError(
            f"{model}: the run has no checkpoint yet. Continue it with `mica train --resume {model}`."
        )
    config = RunConfig.read(RunFolder.open(path).config_file)
    return override(config.model_copy(update={"policy": str(policies[-1])}), assignments, values=values)
