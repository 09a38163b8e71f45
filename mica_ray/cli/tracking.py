"""`mica track` and `mica register`: what a finished or interrupted run still owes MLflow."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mica_ray.config.run_config import RunConfig
from mica_ray.runs.folder import RunFolder
from mica_ray.runs.mlflow_run import open_tracking
from mica_ray.runs.registration import register_policy


def run_track(run: Path) -> bool:
    """Send what waits in a run folder; say whether all of it arrived.

    Raises:
        ConfigError: no run folder, none that MLflow knows.
    """
    folder = RunFolder.open(run)
    config = RunConfig.read(folder.config_file)
    with Console().status(f"sending to {config.tracking_uri or folder.tracking_uri}"):
        waiting = open_tracking(config, folder).flush()
    store = config.tracking_uri or folder.tracking_uri
    if waiting:
        Console(stderr=True).print(f"{store}: does not answer; {waiting} records wait in {folder.outbox}")
    else:
        Console().print(f"all records are at {store}", soft_wrap=True, highlight=False)
    return not waiting


def run_register(run: Path, *, name: str | None) -> None:
    """Register a run's policy and say under what.

    Raises:
        ConfigError: it has not finished, or MLflow refuses.
    """
    made = register_policy(RunFolder.open(run), name)
    how = "registered as" if made.is_new else "was registered before as"
    Console().print(f"{how} {made.name} version {made.version} at {made.store}", soft_wrap=True)
