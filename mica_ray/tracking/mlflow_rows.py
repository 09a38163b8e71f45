"""Send metrics, parameters and tags to MLflow so that a row that it refuses costs only that row."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from mica_ray.error_lines import first_line
from mica_ray.valid_text import valid_text

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

_LOG = logging.getLogger(__name__)

REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS"})
"""Error codes of MLflow for content that it will never accept."""

Kind = Literal["metrics", "params", "tags"]


class DeletedError(Exception):
    """The run or its experiment is deleted, so MLflow accepts nothing until it is restored."""


def plain_value(value: object) -> str:
    r"""Return a value as valid Unicode without NUL, which databases cannot store.

    >>> plain_value("a\x00b"), plain_value(0.5)
    ('a�b', '0.5')
    """
    return valid_text(str(value)).replace("\x00", "\ufffd")


def send_rows(
    client: MlflowClient,
    run_id: str,
    kind: Kind,
    rows: Sequence[Metric | Param | RunTag],
    *,
    reported: set[tuple[str, str]],
) -> None:
    """Send rows in one batch, and one by one if MLflow refuses the batch.

    Args:
        client: of the store.
        run_id: the run.
        kind: of the rows.
        rows: at most one batch.
        reported: kinds and names whose refusal was logged; new ones are added.

    Raises:
        MlflowException: the store does not respond.
        DeletedError: the run or its experiment is deleted.
    """
    from mlflow.exceptions import MlflowException

    def send(batch: Sequence[Any]) -> None:
        arguments: dict[str, Any] = {kind: batch}
        client.log_batch(run_id, **arguments)

    try:
        send(rows)
        return
    except MlflowException as error:
        if error.error_code not in REFUSALS:
            raise
    check_active(client, run_id)
    for row in rows:
        try:
            send([row])
        except MlflowException as error:
            if error.error_code not in REFUSALS:
                raise
            if (kind, row.key) not in reported:
                reported.add((kind, row.key))
                _LOG.warning("MLflow refuses %s %.80r: %.300s", kind, row.key, first_line(error))


def check_active(client: MlflowClient, run_id: str) -> None:
    """Check that a run and its experiment are not deleted.

    Raises:
        DeletedError: with the command that restores it.
        MlflowException: there is no such run, or the store does not respond.
    """
    run = client.get_run(run_id).info
    if run.lifecycle_stage == "deleted":
        raise DeletedError(
            f"run {run_id} is deleted. Restore it with `mlflow runs restore --run-id {run_id}`"
        )
    experiment = client.get_experiment(run.experiment_id)
    if experiment.lifecycle_stage == "deleted":
        raise DeletedError(deleted_experiment(experiment.name, run.experiment_id))


def deleted_experiment(name: str, experiment_id: str) -> str:
    """Return the message about a deleted experiment."""
    return (
        f"experiment {name!r} is deleted. Restore it with `mlflow experiments restore --experiment-id "
        f"{experiment_id}`"
    )
