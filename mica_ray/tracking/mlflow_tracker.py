"""Metrics and files to MLflow, by way of the disk: a server that is away neither stops nor slows a run.

The other trackers are in tracker.py; when what is sent is decided in outbox.py.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mica_ray.error_lines import first_line
from mica_ray.tracking.mlflow_store import connect
from mica_ray.tracking.outbox import DeliveryError, Entry, Outbox, RefusedError
from mica_ray.tracking.tracker import Ending

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_LOG = logging.getLogger(__name__)

DRAIN_SECONDS = 20.0
"""By default: long enough for a server to restart, short enough to wait for at the end of a run."""
_MOST_METRICS, _MOST_PARAMS = 1000, 100
"""That MLflow takes in one batch."""
_METRICS, _PARAMS, _TAGS = "metrics", "params", "tags"
_FILE, _DATASET, _STATUS = "file", "dataset", "status"
"""What an entry of the outbox holds."""
_ENDINGS: Mapping[Ending, str] = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
"""As MLflow calls them."""


@dataclass(frozen=True, slots=True)
class TrackedDataset:
    """Scenarios that a run used."""

    name: str
    digest: str
    """At most 36 characters, equal for equal scenarios only."""
    source: str
    """Where they come from: a file, a folder of cards or a module."""
    context: str
    """training or evaluation."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.digest) <= 36:
            raise ValueError(f"digest must have 1 to 36 characters; got {self.digest!r}")


class MlflowTracker:
    """An MLflow run, to which a resumed one comes back. Consumes what a run tells; waits only in `close`.

    A metric of a step goes to the outbox once, and from there to MLflow with the time at which it was
    measured. MLflow's databases take an equal row once, so that sending it again after a lost answer leaves
    one row. MLflow cannot forget a value either: after a kill the steps beyond the checkpoint keep the values
    of their first execution there, while metrics.jsonl holds those of the second. They differ only where a
    run is not deterministic.

    Attributes:
        is_new: whether nothing was ever sent to it.
    """

    def __init__(
        self,
        uri: str,
        run: str | Callable[[], str],
        outbox: Path,
        *,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        """Go on with a run where its outbox ends.

        Args:
            uri: tracking store.
            run: its id, from `start_run`; or what starts it, asked again and again, beside the sending,
                as long as it raises ValueError because the store is away.
            outbox: file of the run folder, made when missing.
            drain_seconds: without progress, after which `close` leaves the rest on the disk.

        Raises:
            ValueError: the store is there and does not know the run.
        """
        self._run = run
        self._uri, self._drain_seconds = uri, drain_seconds
        if isinstance(run, str):
            self._refuse_unknown(run)
        self._outbox = Outbox(outbox)
        entries = list(self._outbox.entries())
        self.is_new = not entries
        self._known = {
            (name, int(str(entry["step"]))) for entry in entries for name in _mapping(entry.get(_METRICS, {}))
        }
        self._outbox.start(self._deliver)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep the metrics that this step does not have yet, for sending."""
        fresh = {name: float(value) for name, value in metrics.items() if (name, step) not in self._known}
        if fresh:
            self._known.update((name, step) for name in fresh)
            self._outbox.put(step, {"time": int(time.time() * 1000), _METRICS: fresh})

    @property
    def run_id(self) -> str:
        """Of the MLflow run."""
        assert isinstance(self._run, str), "a run that is begun later has no id before"
        return self._run

    def params(self, params: Mapping[str, str]) -> None:
        """Keep a config by dotted name, for sending."""
        rows = list(params.items())
        for start in range(0, len(rows), _MOST_PARAMS):
            self._outbox.put(0, {_PARAMS: dict(rows[start : start + _MOST_PARAMS])})

    def tags(self, tags: Mapping[str, str]) -> None:
        """Keep texts by name, for sending; the last text of a name counts."""
        self._outbox.put(0, {_TAGS: dict(tags)})

    def dataset(self, dataset: TrackedDataset) -> None:
        """Keep what the run uses, for sending."""
        record = {"name": dataset.name, "digest": dataset.digest, "source": dataset.source}
        self._outbox.put(0, {_DATASET: {**record, "context": dataset.context}})

    def artifact(self, path: Path) -> None:
        """Have a file or folder copied to the run's artifacts; it must stay where it is until then."""
        root = path.absolute()
        files = sorted(item for item in root.rglob("*") if item.is_file()) if root.is_dir() else [root]
        for file in files:
            place = file.parent.relative_to(root.parent).as_posix()
            self._outbox.put(0, {_FILE: str(file), "place": "" if place == "." else place})

    def go_on(self) -> None:
        """Mark the run as running again, where it was ended before."""
        self._outbox.put(0, {_STATUS: "RUNNING"})

    def close(self, ending: Ending = "finished") -> None:
        """Mark how the run ended and send what is left, as long as the server takes it."""
        self._outbox.put(0, {_STATUS: _ENDINGS[ending]})
        self.flush()

    def flush(self) -> int:
        """Send what is left, as long as the server takes it, and end the thread; give what still waits."""
        waiting = self._outbox.close(self._drain_seconds)
        if waiting:
            _LOG.warning(
                "MLflow at %s does not answer: %d records wait on the disk; send them by `mica track RUN`",
                self._uri,
                waiting,
            )
        return waiting

    def _refuse_unknown(self, run_id: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise ValueError(
                    f"MLflow at {self._uri} has no run {run_id}; give the store the run began with"
                ) from error
            _LOG.warning("MLflow at %s does not answer; metrics wait on the disk", self._uri)

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
        """Say of a failure whether it is worth another attempt."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            reason = f"MLflow at {self._uri}: {first_line(error)}"
            if error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
                raise RefusedError(reason) from error
            raise DeliveryError(reason) from error
        except RefusedError:
            raise
        except Exception as error:
            # A client of any store may raise its own errors; none of them may end the thread.
            raise DeliveryError(f"MLflow at {self._uri}: {first_line(error)}") from error

    def _send_metrics(self, entries: Sequence[Entry]) -> int:
        """Send the entries at the head that hold metrics, one batch at most; give their number."""
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

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
        try:
            self._client.log_batch(self.run_id, metrics=[row for rows in batches for row in rows])
        except MlflowException as error:
            if len(batches) == 1 or error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            # One of them is not taken: alone, it keeps no other back.
            self._client.log_batch(self.run_id, metrics=batches[0])
            return 1
        return len(batches)

    def _send_params(self, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(self.run_id, params=[Param(name, str(text)) for name, text in params.items()])

    def _send_tags(self, tags: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(self.run_id, tags=[RunTag(name, str(text)) for name, text in tags.items()])

    def _send_dataset(self, record: Mapping[str, Any]) -> None:
        import json

        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": record["source"]})
        dataset = Dataset(record["name"], record["digest"], source_type="local", source=source)
        tag = InputTag("mlflow.data.context", record["context"])
        self._client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, [tag])])

    def _send_file(self, file: Path, place: str) -> None:
        if not file.is_file():
            raise RefusedError(f"{file}: is gone")
        self._client.log_artifact(self.run_id, str(file), place or None)


def _mapping(value: object) -> Mapping[str, Any]:
    assert isinstance(value, Mapping), "entries are written here alone"
    return value
