"""The MLflow run of a run folder or of a sweep's: begun once, gone on with ever after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mica_ray.config.provenance import environment, flat_config
from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.config.run_folder import RunFolder
from mica_ray.training.metrics import metrics_table
from mica_ray.training.mlflow_tracker import MlflowTracker, start_run


def begin_tracking(config: RunConfig, folder: RunFolder) -> MlflowTracker:
    """Begin the MLflow run of a training run with its config, or go on with it.

    Raises:
        ConfigError: the store cannot be reached when the run begins, or does not know it when it goes on.
    """
    uri = config.tracking_uri or folder.tracking_uri

    def start() -> str:
        return start_run(
            uri,
            experiment=config.name,
            run_name=folder.path.name,
            artifacts=folder.artifacts,
            tags={**environment(), "contaminated": str(config.contaminated).lower()},
            parent=config.tracking_parent,
            description=metrics_table(),
        )

    tracker = _begin_or_go_on(uri, folder, start)
    if tracker.is_new:
        tracker.params(flat_config(config))
        tracker.artifact(folder.config_file)
    return tracker


def begin_sweep_tracking(
    name: str, folder: Path, *, uri: str | None, space: Mapping[str, str], description: str = ""
) -> MlflowTracker:
    """Begin the MLflow run of a sweep, or go on with it.

    Its trials are shown under it when their configs have its `run_id` as `tracking_parent`, and `name` and
    `tracking_uri` as given here. Figures and tables go to `artifact`; `close` ends it.

    Args:
        name: of the sweep and of its trials' configs: MLflow's experiment.
        folder: of the sweep.
        uri: tracking store; None for a sqlite file in the folder, which `sweep_store` names.
        space: what is varied, by dotted key.
        description: the question.

    Raises:
        ConfigError: as `begin_tracking`.
    """
    place, store = RunFolder(folder.absolute()), uri or sweep_store(folder)
    place.path.mkdir(parents=True, exist_ok=True)

    def start() -> str:
        return start_run(
            store,
            experiment=name,
            run_name=name,
            artifacts=place.artifacts,
            tags=environment(),
            description=description,
        )

    tracker = _begin_or_go_on(store, place, start)
    if tracker.is_new:
        tracker.params({f"space.{key}": text for key, text in space.items()})
    return tracker


def sweep_store(folder: Path) -> str:
    """Give the store of a sweep and its trials where none is named."""
    return RunFolder(folder.absolute()).tracking_uri


def open_tracking(config: RunConfig, folder: RunFolder) -> MlflowTracker:
    """Give the MLflow run of a run folder; what is not sent yet is sent from now on.

    Raises:
        ConfigError: there is none, or the store does not know it.
    """
    run_id = folder.read_tracking_run()
    if run_id is None:
        raise ConfigError(f"{folder.path}: has no MLflow run yet; go on with `mica train --resume` first")
    return _open(config.tracking_uri or folder.tracking_uri, run_id, folder)


def _begin_or_go_on(uri: str, folder: RunFolder, start: Callable[[], str]) -> MlflowTracker:
    run_id = folder.read_tracking_run()
    if run_id is None:
        try:
            run_id = start()
        except ValueError as error:
            raise ConfigError(str(error)) from error
        folder.write_tracking_run(run_id)
    tracker = _open(uri, run_id, folder)
    if not tracker.is_new:
        tracker.go_on()
    return tracker


def _open(uri: str, run_id: str, folder: RunFolder) -> MlflowTracker:
    try:
        return MlflowTracker(uri, run_id, folder.outbox)
    except ValueError as error:
        raise ConfigError(str(error)) from error
