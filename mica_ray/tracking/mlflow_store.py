"""Connect to an MLflow store and start a run there. mlflow_tracker.py sends the metrics."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mica_ray.error_lines import first_line
from mica_ray.secrets import checked_key, register_secret
from mica_ray.tracking.mlflow_rows import REFUSALS, DeletedError, deleted_experiment, plain_value

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_TOKEN, _PASSWORD = "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"

REQUEST_SECONDS = 10
"""Timeout of one request to a server: for the connection, and between two bytes of the response."""


def connect(uri: str) -> MlflowClient:
    """Return a client whose requests time out after REQUEST_SECONDS. Only the outbox retries.

    Raises:
        ValueError: the token in the environment cannot be one.
    """
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
    from mlflow.tracking import MlflowClient

    if uri.startswith(("http://", "https://")):
        _check_login()
    MLFLOW_HTTP_REQUEST_TIMEOUT.set(REQUEST_SECONDS)
    MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(0)
    return MlflowClient(tracking_uri=uri)


def _check_login() -> None:
    """Check the login that MLflow reads itself, and remove the line ends around it, as MLflow does not.

    Raises:
        ValueError: with the name of the variable.
    """
    if token := os.environ.get(_TOKEN):
        os.environ[_TOKEN] = checked_key(token, _TOKEN)
    if password := os.environ.get(_PASSWORD):  # May contain any character but a line end.
        register_secret(password)
        os.environ[_PASSWORD] = password.strip("\r\n")


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
    """Start an MLflow run and return its id. Only this call needs a reachable store.

    Args:
        uri: tracking store, e.g. sqlite:////path/mlflow.db or a server's address.
        experiment: created when missing.
        run_name: shown in MLflow's list.
        artifacts: artifact folder of a newly created experiment; not used with a server.
        tags: git state, package versions and the like.
        parent: id of the parent run in the same experiment, such as that of a sweep.
        description: text on the run's page, such as the table of metrics.

    Raises:
        ValueError: the store cannot be reached or refuses the run, or the experiment is deleted.
    """
    from mlflow.exceptions import MlflowException

    labels = {"mlflow.note.content": description, **(tags or {})}
    experiment, run_name = plain_value(experiment), plain_value(run_name)
    if parent is not None:
        labels["mlflow.parentRunId"] = parent
    try:
        client = connect(uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            # A server on another machine could not show files of a local folder.
            place = None if uri.startswith(("http://", "https://")) else artifacts.absolute().as_uri()
            experiment_id = client.create_experiment(experiment, artifact_location=place)
        elif found.lifecycle_stage == "deleted":
            raise DeletedError(deleted_experiment(experiment, found.experiment_id))
        else:
            experiment_id = found.experiment_id
        return client.create_run(experiment_id, run_name=run_name, tags=labels).info.run_id
    except DeletedError as error:
        raise ValueError(f"MLflow at {uri}: {error}, or set another name.") from error
    except Exception as error:
        # Each store raises its own errors, for a missing driver, a folder or a database.
        if isinstance(error, MlflowException) and error.error_code in REFUSALS:
            raise ValueError(
                f"MLflow at {uri} refuses the run ({first_line(error)[:200]}). Set another name."
            ) from error
        raise ValueError(
            f"MLflow at {uri} cannot start a run ({first_line(error)[:200]}). Start the server, or set "
            "tracking_uri=null to track in a file of the run folder or sweep folder."
        ) from error
