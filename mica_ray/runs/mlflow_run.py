"""The MLflow run of a run folder or of a sweep's: begun once, gone on with ever after."""

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


def begin_tracking(config: RunConfig, folder: RunFolder) -> MlflowTracker:
    """Begin the MLflow run of a training run with its config, or go on with it.

    A run with a parent begins in MLflow once the store answers, as its parent's beginning has shown that it
    can; until then, what it tells waits on the disk.

    Raises:
        ConfigError: the store cannot be reached when the run begins, or does not know it when it goes on.
    """
    begin = _beginning(config, folder)
    tracker = _begin_or_go_on(_store(config, folder), folder, begin, may_wait=bool(config.tracking_parent))
    if tracker.is_new:
        tracker.params(flat_config(config))
        tracker.artifact(folder.config_file)
    return tracker


def begin_sweep_tracking(
    name: str,
    folder: Path,
    *,
    uri: str,
    params: Mapping[str, str],
    description: str = "",
    parent: str | None = None,
) -> MlflowTracker:
    """Begin the MLflow run of a sweep, or go on with it.

    Its trials are shown under it when their configs have its `run_id` as `tracking_parent`, and `name` and
    `tracking_uri` as given here.

    Args:
        name: of the sweep and of its trials' configs: MLflow's experiment.
        folder: of the sweep.
        uri: as `sweep_store` gives it.
        params: what is varied, and how trials are compared.
        description: the question.
        parent: id of the MLflow run under which the sweep is shown.

    Raises:
        ConfigError: the store cannot be reached when the sweep begins, or does not know it when it goes on.
    """
    place = RunFolder(folder.absolute())
    place.path.mkdir(parents=True, exist_ok=True)

    def begin() -> str:
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

    tracker = _begin_or_go_on(uri, place, begin, may_wait=False)
    if tracker.is_new:
        tracker.params(params)
    return tracker


def sweep_store(folder: Path, uri: str | None) -> str:
    """Give the store of a sweep and its trials: a sqlite file in the sweep's folder where none is named.

    Args:
        folder: of the sweep.
        uri: as the sweep's base has it.
    """
    if uri is None:
        return RunFolder(folder.absolute()).tracking_uri
    # Trials run elsewhere, from where a relative path would lead to another file.
    path = uri.removeprefix(_SQLITE)
    return f"{_SQLITE}{Path(path).absolute()}" if uri.startswith(_SQLITE) and path else uri


def open_tracking(
    config: RunConfig, folder: RunFolder, *, drain_seconds: float = DRAIN_SECONDS
) -> MlflowTracker:
    """Give the MLflow run of a run folder; what is not sent yet is sent from now on.

    Args:
        config: of the run.
        folder: of the run.
        drain_seconds: without progress, after which the rest stays on the disk.

    Raises:
        ConfigError: there is none, or the store does not know it.
    """
    run = folder.read_tracking_run()
    if run is None and not folder.outbox.is_file():
        raise ConfigError(f"{folder.path}: has no MLflow run yet; go on with `mica train --resume` first")
    run = run or _beginning(config, folder)
    return _open(_store(config, folder), run, folder, drain_seconds=drain_seconds)


def _store(config: RunConfig, folder: RunFolder) -> str:
    return config.tracking_uri or folder.tracking_uri


def _beginning(config: RunConfig, folder: RunFolder) -> Callable[[], str]:
    """Give what begins the MLflow run of a training run."""

    def begin() -> str:
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

    return begin


def _begin_or_go_on(
    uri: str, folder: RunFolder, begin: Callable[[], str], *, may_wait: bool
) -> MlflowTracker:
    run: str | Callable[[], str] | None = folder.read_tracking_run()
    if run is None:
        try:
            run = begin if may_wait else begin()
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
