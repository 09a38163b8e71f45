"""The Ray that runs and sweeps use: the cluster that RAY_ADDRESS names, or one started on this machine."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping

from mica_ray.config.run_config import RunConfig
from mica_ray.launch.plan import cpus_wanted
from mica_ray.launch.preflight import check_gpus


def join_ray_for(config: RunConfig) -> Callable[[], None]:
    """Join or start the Ray of a run. Gives the call that leaves it.

    Raises:
        ConfigError: the cluster has fewer GPUs than asked for.
    """
    import ray

    leave = join_ray(cpus=cpus_wanted(config), dashboard_port=config.dashboard_port)
    check_gpus(config, ray.cluster_resources().get("GPU", 0))
    return leave


def join_ray(*, cpus: float, dashboard_port: int | None = None) -> Callable[[], None]:
    """Join the cluster that RAY_ADDRESS names, or start one here. Gives the call that leaves it.

    Args:
        cpus: that one started here counts at least.
        dashboard_port: of its dashboard; None for none.
    """
    import ray

    if ray.is_initialized():
        return lambda: None
    if joins_cluster():
        ray.init(log_to_driver=False)
    else:
        # "local" ignores whatever address an earlier head has left behind. Ray only counts CPUs: fewer
        # cores than processes make a run slow, not impossible.
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
    """Give what the Ray that was joined has, such as "CPU" and "GPU"."""
    import ray

    return ray.cluster_resources()


def joins_cluster() -> bool:
    """Say whether runs join a cluster instead of starting Ray on this machine."""
    return bool(os.environ.get("RAY_ADDRESS"))


def gpus_here() -> int | None:
    """Count this machine's GPUs; None where a cluster is joined, which is asked after joining."""
    if joins_cluster():
        return None
    import torch

    return torch.cuda.device_count()
