"""Where metrics go: the screen, a file, MLflow. What they are called and mean is in metrics.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mica_ray.training.records import StepRecords

if TYPE_CHECKING:
    from rich.console import Console


class Tracker(Protocol):
    """Takes what a run measures.

    Consumes metrics by step, produces records; may wait for a disk or a server.
    """

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics of a step. Several calls per step add up; no step's metric is recorded twice."""
        ...

    def artifact(self, path: Path) -> None:
        """Keep a copy of a file or folder with the run."""
        ...

    def close(self) -> None:
        """Flush and end the record."""
        ...


@dataclass(frozen=True, slots=True)
class Trackers:
    """Several trackers as one."""

    trackers: Sequence[Tracker]

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Tell each."""
        for tracker in self.trackers:
            tracker.log(metrics, step)

    def artifact(self, path: Path) -> None:
        """Give it to each."""
        for tracker in self.trackers:
            tracker.artifact(path)

    def close(self) -> None:
        """Close each."""
        for tracker in self.trackers:
            tracker.close()


@dataclass(frozen=True, slots=True)
class ConsoleTracker:
    """One line per call on a rich console: the chosen metrics that the call holds."""

    console: Console
    shown: tuple[str, ...] = (
        "idr_mean", "return_mean", "success_fraction", "turns_mean", "grad_norm", "logprob_difference_max",
    )  # fmt: skip

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Print the shown metrics of this call; print nothing when it has none of them."""
        parts = [f"{name} [bold]{metrics[name]:.4g}[/bold]" for name in self.shown if name in metrics]
        if parts:
            self.console.print(f"step {step:>4}  " + "  ".join(parts), highlight=False)

    def artifact(self, path: Path) -> None:
        """A screen keeps no files."""

    def close(self) -> None:
        """Nothing is held."""


class JsonlTracker:
    """Metrics as JSON lines {"step", name: value, ...}, one line per call."""

    def __init__(self, path: Path, *, first_step: int = 0) -> None:
        """Open the file.

        Lines of `first_step` and later steps are dropped, because those steps come again.
        """
        self._records = StepRecords(path, first_step=first_step)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write one line."""
        self._records.append(step, [metrics])

    def artifact(self, path: Path) -> None:
        """The files lie in the run folder already."""

    def close(self) -> None:
        """Every line is on the disk already."""


class MlflowTracker:
    """An MLflow run.

    A resumed run goes on in the same one; a metric already there for a step is not written again.

    MLflow cannot forget a value, so after a kill the steps beyond the checkpoint keep the values of their
    first execution there, while metrics.jsonl holds those of the second. They differ only where a run is not
    deterministic.
    """

    def __init__(
        self,
        uri: str,
        *,
        experiment: str,
        run_name: str,
        artifacts: Path,
        run_id: str | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        description: str = "",
    ) -> None:
        """Start a run, or go on with one.

        Args:
            uri: tracking store, e.g. sqlite:////path/mlflow.db.
            experiment: made when missing.
            run_name: shown in MLflow's list.
            artifacts: folder for the experiment's artifacts, used when the experiment is made here.
            run_id: the run to go on with, None for a new one.
            params: config by dotted name; written for a new run only.
            tags: git state, package versions and the like.
            description: text of the run's page, for instance the table of metrics.

        Raises:
            ValueError: the store does not know run_id.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        self._last_step: dict[str, int] = {}
        if run_id is not None:
            try:
                known = self._client.get_run(run_id).data.metrics
            except MlflowException as error:
                raise ValueError(
                    f"MLflow at {uri} has no run {run_id}; resume with the store the run began with"
                ) from error
            for name in known:
                self._last_step[name] = max(
                    item.step for item in self._client.get_metric_history(run_id, name)
                )
            self._client.update_run(run_id, status="RUNNING")
            self.run_id = run_id
            return
        found = self._client.get_experiment_by_name(experiment)
        experiment_id = (
            found.experiment_id
            if found is not None
            else self._client.create_experiment(experiment, artifact_location=artifacts.absolute().as_uri())
        )
        labels = {"mlflow.note.content": description, **(tags or {})}
        run = self._client.create_run(experiment_id, run_name=run_name, tags=labels)
        self.run_id: str = run.info.run_id
        self._log_params(params or {})

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write the metrics this step does not have yet, in one call."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        fresh = {name: value for name, value in metrics.items() if self._last_step.get(name, -1) < step}
        if fresh:
            rows = [Metric(name, float(value), now, step) for name, value in fresh.items()]
            self._client.log_batch(self.run_id, metrics=rows)
            self._last_step.update(dict.fromkeys(fresh, step))

    def artifact(self, path: Path) -> None:
        """Copy a file or folder to the run's artifacts."""
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), path.name)
        else:
            self._client.log_artifact(self.run_id, str(path))

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self.run_id)

    def _log_params(self, params: Mapping[str, str]) -> None:
        """Write the config, 100 names a call: what MLflow takes at once."""
        from mlflow.entities import Param

        rows = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(rows), 100):
            self._client.log_batch(self.run_id, params=rows[start : start + 100])
