"""Join the Ray cluster of RAY_ADDRESS, or start Ray on this machine."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping

from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig
from mica_ray.error_lines import raised_as
from mica_ray.launch.plan import cpus_wanted
from mica_ray.launch.preflight import check_gpus


def join_ray_for(config: RunConfig) -> Callable[[], None]:
    """Join or start the Ray of a run, and return the function that leaves it.

    Raises:
        ConfigError: the cluster has fewer GPUs than the run needs.
    """
    import ray

    leave = join_ray(cpus=cpus_wanted(config), dashboard_port=config.dashboard_port)
    check_gpus(config, ray.cluster_resources().get("GPU", 0))
    return leave


def join_ray(*, cpus: float, dashboard_port: int | None = None) -> Callable[[], None]:
    """Join the cluster of RAY_ADDRESS or start Ray, and return the function that leaves it.

    Args:
        cpus: minimum CPUs that a Ray started here counts.
        dashboard_port: port of its dashboard; None for no dashboard.

    Raises:
        ConfigError: the cluster cannot be joined, or Ray does not start.
    """
    import ray

    if ray.is_initialized():
        return lambda: None
    if joins_cluster():
        problem = f"The Ray cluster at RAY_ADDRESS={os.environ['RAY_ADDRESS']} cannot be joined"
        remedy = "Check that its head runs and uses the same Ray version, or unset RAY_ADDRESS."
        with raised_as(ConfigError, problem, remedy):
            ray.init(log_to_driver=False)
        return ray.shutdown
    with raised_as(ConfigError, "Ray does not start on this machine", "Free memory, or use --inline."):
        # "local" ignores the address that an earlier head node may have left. Ray only counts CPUs: with
        # fewer cores than processes a run is slow, but works.
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, math.ceil(cpus)),
            include_dashboard=dashboard_port is not None,
            dashboard_port=dashboard_port,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    return ray.shutdown


def cluster_resources() -> Mapping[str, float]:
    """Return the resources of the joined Ray, such as "CPU" and "GPU"."""
    import ray

    return ray.cluster_resources()


def joins_cluster() -> bool:
    """Whether runs join a cluster instead of starting Ray on this machine."""
    return bool(os.environ.get("RAY_ADDRESS"))


def gpus_here() -> int | None:
    """Return the number of GPUs of this machine; None if a cluster is joined."""
    if joins_cluster():
        return None
    import torch

    return torch.cuda.device_count()
