"""Metrics and files to MLflow through a file on disk: an outage does not stop or slow a run.

When entries are sent and retried is in outbox.py. The other trackers are in tracker.py.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mica_ray.error_lines import first_line
from mica_ray.tracking.mlflow_rows import REFUSALS, DeletedError, Kind, check_active, plain_value, send_rows
from mica_ray.tracking.mlflow_store import connect
from mica_ray.tracking.outbox import DeliveryError, Entry, Outbox, RefusedError
from mica_ray.tracking.tracker import Ending

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

_LOG = logging.getLogger(__name__)

DRAIN_SECONDS = 20.0
"""Default time without progress after which `close` stops waiting: enough for a server to restart."""
_MOST_METRICS, _MOST_PARAMS = 1000, 100
"""Limits of one batch in MLflow."""
_METRICS: Kind = "metrics"
_PARAMS: Kind = "params"
_TAGS: Kind = "tags"
_FILE, _DATASET, _STATUS = "file", "dataset", "status"
"""Kinds of entries in the outbox."""
_ENDINGS: Mapping[Ending, str] = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
"""Run status in MLflow."""


@dataclass(frozen=True, slots=True)
class TrackedDataset:
    """Scenarios that a run uses."""

    name: str
    digest: str
    """At most 36 characters; equal only for equal scenarios."""
    source: str
    """A file, a folder of cards or a module."""
    context: str
    """"training" or "evaluation"."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.digest) <= 36:
            raise ValueError(f"digest must have 1 to 36 characters, got {self.digest!r}.")


class MlflowTracker:
    """`Tracker` of one MLflow run, reopened by a resume. Waits only in `close` and `flush`.

    Each metric of a step enters the outbox once and is sent to MLflow with the time of its measurement.
    MLflow stores equal rows once, so a repeated delivery after a lost response leaves one row. MLflow cannot
    delete a value: after a kill, steps beyond the checkpoint keep the values of their first execution there,
    while metrics.jsonl has those of the second. They differ only if the run is not deterministic.

    Attributes:
        is_new: whether the outbox has no entry yet.
    """

    def __init__(
        self,
        uri: str,
        run: str | Callable[[], str],
        outbox: Path,
        *,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        """Open the outbox and start sending its remaining entries.

        Args:
            uri: tracking store.
            run: its id, from `start_run`; or a function that starts it. The sending thread calls the function
                until it stops raising ValueError for an unreachable store.
            outbox: file in the run folder, created when missing.
            drain_seconds: time without progress after which `close` leaves the rest on the disk.

        Raises:
            ValueError: the store is reachable and has no such run, or the run or its experiment is deleted.
        """
        self._run = run
        self._reported: set[tuple[str, str]] = set()
        self._uri, self._drain_seconds = uri, drain_seconds
        if isinstance(run, str):
            self._check_known(run)
        self._outbox = Outbox(outbox)
        entries = list(self._outbox.entries())
        self.is_new = not entries
        self._known = {
            (name, int(str(entry["step"]))) for entry in entries for name in _mapping(entry.get(_METRICS, {}))
        }
        self._outbox.start(self._deliver)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue the metrics that this step does not have yet."""
        fresh = {name: float(value) for name, value in metrics.items() if (name, step) not in self._known}
        if fresh:
            self._known.update((name, step) for name in fresh)
            self._outbox.put(step, {"time": int(time.time() * 1000), _METRICS: fresh})

    @property
    def run_id(self) -> str:
        """Id of the MLflow run."""
        assert isinstance(self._run, str), "the run has not been started yet"
        return self._run

    def params(self, params: Mapping[str, str]) -> None:
        """Queue a config by dotted name."""
        rows = list(params.items())
        for start in range(0, len(rows), _MOST_PARAMS):
            self._outbox.put(0, {_PARAMS: dict(rows[start : start + _MOST_PARAMS])})

    def tags(self, tags: Mapping[str, str]) -> None:
        """Queue texts by name; the last text of a name is kept."""
        self._outbox.put(0, {_TAGS: dict(tags)})

    def dataset(self, dataset: TrackedDataset) -> None:
        """Queue a dataset that the run uses."""
        record = {"name": dataset.name, "digest": dataset.digest, "source": dataset.source}
        self._outbox.put(0, {_DATASET: {**record, "context": dataset.context}})

    def artifact(self, path: Path) -> None:
        """Queue a file or folder for upload. It must stay in place until it is sent."""
        root = path.absolute()
        files = sorted(item for item in root.rglob("*") if item.is_file()) if root.is_dir() else [root]
        for file in files:
            place = file.parent.relative_to(root.parent).as_posix()
            self._outbox.put(0, {_FILE: str(file), "place": "" if place == "." else place})

    def go_on(self) -> None:
        """Mark the run as running again after a resume."""
        self._outbox.put(0, {_STATUS: "RUNNING"})

    def close(self, ending: Ending = "finished") -> None:
        """Mark how the run ended, then `flush`."""
        self._outbox.put(0, {_STATUS: _ENDINGS[ending]})
        self.flush()

    def flush(self) -> int:
        """Send the rest while the server responds, then stop; return the number of unsent entries."""
        waiting = self._outbox.close(self._drain_seconds)
        if waiting:
            _LOG.warning(
                "MLflow at %s does not respond. %d records are stored on the disk; run `mica track RUN` "
                "later to send them.",
                self._uri,
                waiting,
            )
        return waiting

    def _check_known(self, run_id: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            check_active(self._client, run_id)
        except DeletedError as error:
            raise ValueError(f"MLflow at {self._uri}: {error}, or start a new run.") from error
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise ValueError(
                    f"MLflow at {self._uri} has no run {run_id}. Set tracking_uri to the store in which the "
                    "run was started."
                ) from error
            _LOG.warning("MLflow at %s does not respond. Metrics are stored on the disk.", self._uri)

    @cached_property
    def _client(self) -> MlflowClient:
        return connect(self._uri)

    def _deliver(self, entries: Sequence[Entry]) -> int:
        first = entries[0]
        with self._translated():
            if not isinstance(self._run, str):
                self._run = self._run()
            if _METRICS in first:
                return self._send_metrics(entries)
            if _PARAMS in first:
                self._send_params(_mapping(first[_PARAMS]))
            elif _TAGS in first:
                self._send_tags(_mapping(first[_TAGS]))
            elif _DATASET in first:
                self._send_dataset(_mapping(first[_DATASET]))
            elif _FILE in first:
                self._send_file(Path(str(first[_FILE])), str(first["place"]))
            else:
                status = str(first[_STATUS])
                ended = self._client.set_terminated if status != "RUNNING" else self._client.update_run
                ended(self.run_id, status=status)
        return 1

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn errors of the client into RefusedError (permanent) or DeliveryError (retried later)."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            reason = f"MLflow at {self._uri}: {first_line(error)}"
            if error.error_code in REFUSALS:
                raise RefusedError(reason) from error
            raise DeliveryError(reason) from error
        except RefusedError:
            raise
        except Exception as error:
            # Clients of other stores raise their own errors; none of them may end the thread.
            raise DeliveryError(f"MLflow at {self._uri}: {first_line(error)}") from error

    def _send_metrics(self, entries: Sequence[Entry]) -> int:
        """Send the metrics entries at the head, at most one batch; return their number."""
        from mlflow.entities import Metric

        batches: list[list[Metric]] = []
        for entry in entries:
            if _METRICS not in entry:
                break
            at, step = int(str(entry["time"])), int(str(entry["step"]))
            rows = [
                Metric(name, math.nan if value is None else float(value), at, step)
                for name, value in _mapping(entry[_METRICS]).items()
            ]
            if batches and sum(map(len, batches)) + len(rows) > _MOST_METRICS:
                break
            batches.append(rows)
        self._send_rows(_METRICS, [row for rows in batches for row in rows])
        return len(batches)

    def _send_params(self, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self._send_rows(_PARAMS, [Param(name, plain_value(text)) for name, text in params.items()])

    def _send_tags(self, tags: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        self._send_rows(_TAGS, [RunTag(name, plain_value(text)) for name, text in tags.items()])

    def _send_rows(self, kind: Kind, rows: Sequence[Metric | Param | RunTag]) -> None:
        send_rows(self._client, self.run_id, kind, rows, reported=self._reported)

    def _send_dataset(self, record: Mapping[str, Any]) -> None:
        import json

        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": record["source"]})
        dataset = Dataset(record["name"], record["digest"], source_type="local", source=source)
        tag = InputTag("mlflow.data.context", record["context"])
        self._client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, [tag])])

    def _send_file(self, file: Path, place: str) -> None:
        if not (file.is_file() and os.access(file, os.R_OK)):
            raise RefusedError(f"{file} does not exist any more, or cannot be read")
        self._client.log_artifact(self.run_id, str(file), place or None)


def _mapping(value: object) -> Mapping[str, Any]:
    assert isinstance(value, Mapping), "entries are written by this class only"
    return value
