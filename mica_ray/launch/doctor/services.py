"""Checks of the services that a run uses: Ray and the MLflow store."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from mica_ray.config.run_config import RunConfig
from mica_ray.error_lines import first_line
from mica_ray.launch.cluster import cluster_resources, join_ray_for
from mica_ray.launch.doctor.finding import Finding

_CONNECT_SECONDS = 5.0
_RAY_PORT, _CLIENT_PORT = 6379, 10001
_SQLITE = "sqlite:///"
_ALONE = "Start the server, or leave tracking_uri out to track in a file of the run folder."


def check_ray(config: RunConfig, *, inline: bool, environment: Mapping[str, str], starts: bool) -> Finding:
    """Check that Ray can be joined, or started on this machine.

    Args:
        config: of the run.
        inline: whether the run uses no Ray.
        environment: variables of this process, RAY_ADDRESS among them.
        starts: whether to join or start it, as the run will; otherwise only an address is connected to.

    Raises:
        ConfigError: Ray does not start, or the cluster is too small.
    """
    if inline:
        return Finding("Ray", "ok", "not needed")
    address = environment.get("RAY_ADDRESS", "")
    place = f"the cluster at {address}" if address else "started on this machine"
    if (target := _ray_target(address)) is not None:
        try:
            socket.create_connection(target, timeout=_CONNECT_SECONDS).close()
        except OSError as error:
            found = f"RAY_ADDRESS={address} does not answer ({first_line(error)})"
            return Finding("Ray", "failed", found, "Check the head node, or unset RAY_ADDRESS.")
    if not starts:
        return Finding("Ray", "ok", f"{version('ray')}, {place}")
    leave = join_ray_for(config)
    try:
        resources = cluster_resources()
        counts = f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
    finally:
        leave()
    return Finding("Ray", "ok", f"{version('ray')}, {place}: {counts}")


def _ray_target(address: str) -> tuple[str, int] | None:
    """Return host and port of an address; None if there is nothing to connect to."""
    if address in ("", "auto", "local"):
        return None
    default = _CLIENT_PORT if address.startswith("ray://") else _RAY_PORT
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    return None if parts.hostname is None else (parts.hostname, parts.port or default)


def check_tracking(config: RunConfig, *, creates: bool) -> Finding:
    """Check that the MLflow store can be used. A run waits for a server that is down, so this is a warning.

    Args:
        config: of the run.
        creates: whether a database without MLflow's tables may get them, as it does when a run starts.
    """
    uri = config.tracking_uri
    if uri is None:
        return Finding("tracking", "ok", "a file in the run folder")
    if uri.startswith(_SQLITE):
        return _check_file(Path(uri.removeprefix(_SQLITE)))
    if not uri.startswith(("http://", "https://")) and not creates:
        return Finding("tracking", "ok", f"{urlsplit(uri).scheme} database, not connected to")
    from mica_ray.tracking.mlflow_store import connect

    place = urlsplit(uri).hostname or urlsplit(uri).scheme
    try:
        connect(uri).search_experiments(max_results=1)
    except Exception as error:  # Each store raises its own errors.
        return Finding("tracking", "warning", f"MLflow at {place}: {first_line(error)[:200]}", _ALONE)
    return Finding("tracking", "ok", f"MLflow at {place} answers")


def _check_file(path: Path) -> Finding:
    """Check that a sqlite file can be written; a missing one is not created."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        return Finding("tracking", "failed", f"{path} cannot be written", "Set tracking_uri to another file.")
    if not path.exists() or path.stat().st_size == 0:
        return Finding("tracking", "ok", f"{path} will be created")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error as error:
        reason = f"{path} is no database ({first_line(error)})"
        return Finding("tracking", "failed", reason, "Set tracking_uri to another file.")
    if tables and "experiments" not in tables:
        reason = f"{path} is the database of another program"
        return Finding("tracking", "failed", reason, "Set tracking_uri to another file.")
    return Finding("tracking", "ok", f"{path}, {len(tables)} tables")
