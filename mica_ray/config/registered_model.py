"""A policy from MLflow's model registry: `models:/NAME/VERSION` or `models:/NAME@ALIAS` as a local folder."""

from __future__ import annotations

from pathlib import Path

from mica_ray.config.references import ConfigError

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
