"""A run's trained policy as a version of a model in MLflow's registry, with what it was measured at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.mlflow_run import open_tracking
from mica_ray.tracking.mlflow_store import connect

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


_POLICY = "policy"
"""Folder of the policy among a run's artifacts."""
_TAG_LENGTH = 5000
"""Characters that MLflow keeps of a tag's value."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A version of a registered model."""

    name: str
    version: str
    store: str
    is_new: bool
    """False where the run's policy was registered under this name before."""


def register_policy(folder: RunFolder, name: str | None = None) -> Registration:
    """Register the trained policy of a finished run; a second call finds the first one's version.

    Args:
        folder: of the run.
        name: of the model; None for the config's name.

    Raises:
        ConfigError: the run has not finished, or MLflow does not answer or refuses.
    """
    from mlflow.exceptions import MlflowException

    config = RunConfig.read(folder.config_file)
    if not folder.summary.is_file():
        raise ConfigError(f"{folder.path}: has not finished; go on with `mica train --resume` first")
    tracker = open_tracking(config, folder)
    store = config.tracking_uri or folder.tracking_uri
    if waiting := tracker.flush():
        raise ConfigError(f"{store}: does not answer, {waiting} records wait; start it and try again")
    try:
        return _register(folder, config, run_id=tracker.run_id, store=store, name=name or config.name)
    except MlflowException as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{store}: the policy was not registered ({reason})") from error


def give_alias(registration: Registration, alias: str, tags: Mapping[str, str]) -> str:
    """Let an alias name a version, and whichever version had it lose it.

    Args:
        registration: the version.
        alias: such as champion.
        tags: why; written before the alias moves, so that who finds the alias finds the reasons.

    Returns:
        The reference that `mica serve` takes.

    Raises:
        ConfigError: MLflow refuses.
    """
    from mlflow.exceptions import MlflowException

    name, version, store = registration.name, registration.version, registration.store
    client = connect(store)
    try:
        for key, text in tags.items():
            client.set_model_version_tag(name, version, key, text[:_TAG_LENGTH])
        client.set_registered_model_alias(name, alias, version)
    except MlflowException as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{store}: {name} was not given the alias {alias} ({reason})") from error
    return f"models:/{name}@{alias}"


def _register(folder: RunFolder, config: RunConfig, *, run_id: str, store: str, name: str) -> Registration:
    client = connect(store)
    _ensure_model(client, name)
    for known in client.search_model_versions(f"run_id='{run_id}'"):
        if known.name == name:
            return Registration(name, str(known.version), store, is_new=False)
    summary = json.loads(folder.summary.read_text())
    if not client.list_artifacts(run_id, _POLICY):
        # With loop.track_policy=false the run left it out.
        client.log_artifacts(run_id, str(Path(summary["policy"])), _POLICY)
    made = client.create_model_version(
        name,
        f"{client.get_run(run_id).info.artifact_uri}/{_POLICY}",
        run_id,
        tags=_tags(config, summary),
        # What a registry does with a version afterwards is nothing to wait for.
        await_creation_for=0,
    )
    return Registration(name, str(made.version), store, is_new=True)


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _tags(config: RunConfig, summary: dict[str, dict[str, dict[str, float | None]]]) -> dict[str, str]:
    """Give EPM-Q with its interval, the gain, and whether test cases were trained on."""
    numbers = {"epm_q": summary["after"]["epm_q"], "epm_q_gain": summary["difference"]["epm_q"]}
    measured = {
        name if bound == "estimate" else f"{name}_{bound}": f"{value:.2f}"
        for name, interval in numbers.items()
        for bound, value in interval.items()
        if value is not None
    }
    guard = {"contaminated": str(config.contaminated).lower(), "evaluated_on": config.evaluation.split}
    return {**measured, **guard, "seed": str(config.seed), "base_policy": config.policy}


REGISTERED = "models:/"


def fetch_registered(reference: str) -> Path:
    """Give the local folder of a registered model, fetching it; MLFLOW_TRACKING_URI says from where.

    Raises:
        ConfigError: there is no such model, or it holds no model folder.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        folder = Path(download_artifacts(reference))
    except (MlflowException, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(
            f"{reference}: not fetched from the registry ({reason}); see MLFLOW_TRACKING_URI"
        ) from error
    # Beside the model MLflow puts files of its own, or the model lies in a folder of the artifact.
    found = sorted(folder.rglob("config.json"), key=lambda file: len(file.parts))
    if not found:
        raise ConfigError(f"{reference}: holds no config.json, so no Hugging Face model folder")
    return found[0].parent
