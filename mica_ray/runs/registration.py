"""Register policies with their scores in MLflow's model registry, and download them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.error_lines import first_line
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.mlflow_run import open_tracking
from mica_ray.tracking.mlflow_store import connect

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_LOG = logging.getLogger(__name__)
_POLICY = "policy"
"""Folder of the policy among a run's artifacts."""
_CONFIG = "mica_config.json"
"""The run's config next to the policy: domain, prompts and template arguments with which it was trained."""
_TAG_LENGTH = 5000
"""Maximum characters of a tag value in MLflow."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A version of a registered model."""

    name: str
    version: str
    store: str
    is_new: bool
    """False if the run's policy was already registered under this name."""


def register_policy(folder: RunFolder, name: str | None = None) -> Registration:
    """Register the policy of a finished run; a second call returns the existing version.

    Args:
        folder: of the run.
        name: of the model; None for the name of the config.

    Raises:
        ConfigError: the run has not finished, or MLflow does not respond or rejects the request.
    """
    config = RunConfig.read(folder.config_file)
    if not folder.summary.is_file():
        raise ConfigError(f"{folder.path} has not finished. Run `mica train --resume {folder.path}` first.")
    from mlflow.exceptions import MlflowException

    tracker = open_tracking(config, folder)
    store = config.tracking_uri or folder.tracking_uri
    if waiting := tracker.flush():
        raise ConfigError(
            f"MLflow store {store} does not respond, {waiting} entries are unsent. Start it and try again."
        )
    try:
        return _register(folder, config, run_id=tracker.run_id, store=store, name=name or config.name)
    except MlflowException as error:
        raise ConfigError(
            f"Registering the policy in {store} failed ({first_line(error)}). Check the name and the store."
        ) from error


def set_alias(registration: Registration, alias: str, tags: Mapping[str, str]) -> str:
    """Move an alias to a version.

    Args:
        registration: the version.
        alias: such as champion; removed from the version that had it.
        tags: reasons; written before the alias moves, so that every version with the alias has them.

    Returns:
        The reference that `mica serve` accepts.

    Raises:
        ConfigError: MLflow rejects the request.
    """
    from mlflow.exceptions import MlflowException

    name, version, store = registration.name, registration.version, registration.store
    client = connect(store)
    try:
        for key, text in tags.items():
            client.set_model_version_tag(name, version, key, text[:_TAG_LENGTH])
        client.set_registered_model_alias(name, alias, version)
    except MlflowException as error:
        raise ConfigError(
            f"Setting the alias {alias} of {name} in {store} failed ({first_line(error)}). Check the store."
        ) from error
    return f"models:/{name}@{alias}"


def _register(folder: RunFolder, config: RunConfig, *, run_id: str, store: str, name: str) -> Registration:
    client = connect(store)
    _ensure_model(client, name)
    for known in client.search_model_versions(f"run_id='{run_id}'"):
        if known.name == name:
            return Registration(name, str(known.version), store, is_new=False)
    summary = folder.read_summary()
    assert summary is not None, "register_policy checks that the run has finished"
    if not client.list_artifacts(run_id, _POLICY):
        # With loop.track_policy=false the run did not log it.
        client.log_artifacts(run_id, str(Path(summary["policy"])), _POLICY)
    with TemporaryDirectory() as place:
        config.write(Path(place) / _CONFIG)
        client.log_artifact(run_id, str(Path(place) / _CONFIG), _POLICY)
    made = client.create_model_version(
        name,
        f"{client.get_run(run_id).info.artifact_uri}/{_POLICY}",
        run_id,
        tags=_tags(config, summary),
        # The registry processes a version afterwards; nothing here depends on it.
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


def _tags(config: RunConfig, summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a version: EPM-Q and its gain with intervals, seed, and contamination."""
    numbers = {"epm_q": summary["after"]["epm_q"], "epm_q_gain": summary["difference"]["epm_q"]}
    measured = {
        name if bound == "estimate" else f"{name}_{bound}": f"{value:.2f}"
        for name, interval in numbers.items()
        for bound, value in interval.items()
        if value is not None
    }
    guard = {"contaminated": str(config.contaminated).lower(), "evaluated_on": config.evaluation.split}
    return {**measured, **guard, "seed": str(config.seed), "base_policy": config.policy}


_NOT_SERVED = ("out", "roles", "tracking_uri", "tracking_parent", "register_as", "budget")
"""Keys of a run's config that mean nothing where its policy is served."""
REGISTERED = "models:/"
"""Prefix of a reference to a registered model."""


def registered_config(reference: str) -> RunConfig:
    """Download a registered model from the store of MLFLOW_TRACKING_URI; return the config to serve it.

    The config is that of the run which trained the model, with the downloaded policy. Where it was trained
    and tracked, and by which roles, is left out. A model without a config gets the default one, with a
    warning.

    Raises:
        ConfigError: there is no such model, it contains no model folder, or its config names code outside of
            mica_ray without `--trust`.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        folder = Path(download_artifacts(reference))
    except (MlflowException, OSError) as error:
        raise ConfigError(
            f"{reference}: download from the registry failed ({first_line(error)}). "
            "Check the name and MLFLOW_TRACKING_URI."
        ) from error
    # MLflow adds files of its own, and the model may be in a subfolder of the artifact.
    found = sorted(folder.rglob("config.json"), key=lambda file: len(file.parts))
    if not found:
        raise ConfigError(f"{reference} contains no config.json. Register a Hugging Face model folder.")
    policy = str(found[0].parent)
    stored = found[0].with_name(_CONFIG)
    if not stored.is_file():
        _LOG.warning(
            "%s has no %s, so it is served with the domain of the default config. Set domain=... and "
            "chat_template_arguments=... with --set, or register the run again.",
            reference,
            _CONFIG,
        )
        return RunConfig(policy=policy)
    config = RunConfig.read(stored)
    left_out = {name: RunConfig.model_fields[name].default for name in _NOT_SERVED}
    return config.model_copy(update={**left_out, "policy": policy})
