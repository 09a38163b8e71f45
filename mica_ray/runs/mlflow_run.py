"""The MLflow run of a run folder or of a sweep: created once, reused on resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.provenance import environment, flat_config
from mica_ray.tracking.mlflow_store import start_run
from mica_ray.tracking.mlflow_tracker import DRAIN_SECONDS, MlflowTracker
from mica_ray.training.metrics import metrics_table

_SQLITE = "sqlite:///"


def start_tracking(config: RunConfig, folder: RunFolder) -> MlflowTracker:
    """Create the MLflow run of a training run with its config, or continue it.

    A run with a parent does not fail if the store is down: creating the parent showed that the store works.
    The run is created once the store responds, and until then its metrics stay on disk.

    Raises:
        ConfigError: the store cannot be reached at the start, or does not know the run to continue.
    """
    start = _starter(config, folder)
    tracker = _start_or_continue(_store(config, folder), folder, start, may_wait=bool(config.tracking_parent))
    if tracker.is_new:
        tracker.params(flat_config(config))
        tracker.artifact(folder.config_file)
    return tracker


def start_sweep_tracking(
    name: str,
    folder: Path,
    *,
    uri: str,
    params: Mapping[str, str],
    description: str = "",
    parent: str | None = None,
) -> MlflowTracker:
    """Create the MLflow run of a sweep, or continue it.

    Its trials are its children if their configs have its `run_id` as `tracking_parent`, and the same `name`
    and `tracking_uri`.

    Args:
        name: of the sweep and its trials' configs; MLflow's experiment.
        folder: of the sweep.
        uri: from `sweep_store`.
        params: the varied keys, and how trials are compared.
        description: the question that the sweep answers.
        parent: id of the parent MLflow run.

    Raises:
        ConfigError: the store cannot be reached at the start, or does not know the run to continue.
    """
    place = RunFolder(folder.absolute())
    place.path.mkdir(parents=True, exist_ok=True)

    def start() -> str:
        run_id = start_run(
            uri,
            experiment=name,
            run_name=name,
            artifacts=place.artifacts,
            tags=environment(),
            parent=parent,
            description=description,
        )
        place.write_tracking_run(run_id)
        return run_id

    tracker = _start_or_continue(uri, place, start, may_wait=False)
    if tracker.is_new:
        tracker.params(params)
    return tracker


def sweep_store(folder: Path, uri: str | None) -> str:
    """Return the MLflow store of a sweep and its trials.

    Args:
        folder: of the sweep.
        uri: `tracking_uri` of the sweep's base config; None for a sqlite file in the folder.
    """
    if uri is None:
        return RunFolder(folder.absolute()).tracking_uri
    # Trials run in other working directories, where a relative path means another file.
    path = uri.removeprefix(_SQLITE)
    return f"{_SQLITE}{Path(path).absolute()}" if uri.startswith(_SQLITE) and path else uri


def open_tracking(
    config: RunConfig, folder: RunFolder, *, drain_seconds: float = DRAIN_SECONDS
) -> MlflowTracker:
    """Open the MLflow run of a run folder, and start to send what is not sent yet.

    Args:
        config: of the run.
        folder: of the run.
        drain_seconds: time without progress after which closing gives up and leaves the rest on disk.

    Raises:
        ConfigError: there is no such MLflow run, or the store does not know it.
    """
    run = folder.read_tracking_run()
    if run is None and not folder.outbox.is_file():
        raise ConfigError(
            f"{folder.path} has no MLflow run yet. Run `mica train --resume {folder.path}` first."
        )
    run = run or _starter(config, folder)
    return _open(_store(config, folder), run, folder, drain_seconds=drain_seconds)


def _store(config: RunConfig, folder: RunFolder) -> str:
    return config.tracking_uri or folder.tracking_uri


def _starter(config: RunConfig, folder: RunFolder) -> Callable[[], str]:
    """Return a function that creates the MLflow run of a training run."""

    def start() -> str:
        run_id = start_run(
            _store(config, folder),
            experiment=config.name,
            run_name=folder.path.name,
            artifacts=folder.artifacts,
            tags={**environment(), "contaminated": str(config.contaminated).lower()},
            parent=config.tracking_parent,
            description=metrics_table(),
        )
        folder.write_tracking_run(run_id)
        return run_id

    return start


def _start_or_continue(
    uri: str, folder: RunFolder, start: Callable[[], str], *, may_wait: bool
) -> MlflowTracker:
    run: str | Callable[[], str] | None = folder.read_tracking_run()
    if run is None:
        try:
            run = start if may_wait else start()
        except ValueError as error:
            raise ConfigError(str(error)) from error
    tracker = _open(uri, run, folder)
    if not tracker.is_new:
        tracker.go_on()
    return tracker


def _open(
    uri: str, run: str | Callable[[], str], folder: RunFolder, *, drain_seconds: float = DRAIN_SECONDS
) -> MlflowTracker:
    try:
        return MlflowTracker(uri, run, folder.outbox, drain_seconds=drain_seconds)
    except ValueError as error:
        raise ConfigError(str(error)) from error
