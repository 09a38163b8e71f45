"""A client of an MLflow store, and the beginning of a run there. What is told of a run: mlflow_tracker.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.error_lines import first_line

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

REQUEST_SECONDS = 10
"""Of one request to a server: to connect, and between two bytes of its answer."""


def connect(uri: str) -> MlflowClient:
    """Give a client whose requests end within REQUEST_SECONDS and are not repeated: the outbox repeats."""
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
    from mlflow.tracking import MlflowClient

    MLFLOW_HTTP_REQUEST_TIMEOUT.set(REQUEST_SECONDS)
    MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(0)
    return MlflowClient(tracking_uri=uri)


def start_run(
    uri: str,
    *,
    experiment: str,
    run_name: str,
    artifacts: Path,
    tags: Mapping[str, str] | None = None,
    parent: str | None = None,
    description: str = "",
) -> str:
    """Start an MLflow run and give its id. The one call for which the store must be there.

    Args:
        uri: tracking store, e.g. sqlite:////path/mlflow.db or a server's address.
        experiment: made when missing.
        run_name: shown in MLflow's list.
        artifacts: folder for the artifacts of an experiment made here, unless a server keeps them.
        tags: git state, package versions and the like.
        parent: id of the run it is nested under, such as a sweep's; of the same experiment.
        description: text of the run's page, for instance the table of metrics.

    Raises:
        ValueError: the store cannot be reached or refuses.
    """
    labels = {"mlflow.note.content": description, **(tags or {})}
    if parent is not None:
        labels["mlflow.parentRunId"] = parent
    try:
        client = connect(uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            # A server on another machine could not show what lies in a folder here.
            place = None if uri.startswith(("http://", "https://")) else artifacts.absolute().as_uri()
            experiment_id = client.create_experiment(experiment, artifact_location=place)
        else:
            experiment_id = found.experiment_id
        return client.create_run(experiment_id, run_name=run_name, tags=labels).info.run_id
    except Exception as error:
        # Each store raises errors of its own: of a driver that is missing, of a folder, of a database.
        raise ValueError(
            f"MLflow at {uri} cannot begin a run ({first_line(error)[:200]}); start it, or set "
            "tracking_uri=null for a file in the run's or the sweep's folder"
        ) from error
