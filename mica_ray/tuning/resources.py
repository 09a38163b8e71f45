"""What one trial takes of a cluster, and how many of them fit at once. Starts nothing."""

from __future__ import annotations

from collections.abc import Mapping

from mica_ray.config.plan import cpus_wanted, gpus_wanted
from mica_ray.config.references import ConfigError
from mica_ray.config.run_config import RunConfig

Bundle = Mapping[str, float]


def trial_bundles(config: RunConfig, *, inline: bool, cpus: float) -> tuple[Bundle, ...]:
    """Give the bundles of a trial's placement group: its driving process, then one for each engine.

    The learner's workers are in none: Ray Train makes a placement group of its own for them, for which
    `most_at_once` leaves room.

    Args:
        config: of the trial.
        inline: whether the driving process does everything.
        cpus: of the driving process.
    """
    if inline:
        return ({"CPU": cpus},)
    engine, roles = config.engine, config.roles
    policy = {"CPU": engine.cpus_per_engine, "GPU": engine.gpus_per_engine}
    served = {"CPU": roles.engine.cpus_per_engine, "GPU": roles.engine.gpus_per_engine}
    bundles = [
        {"CPU": cpus},
        *[policy] * config.num_engines,
        *[served] * (roles.num_engines * len(roles.served_models)),
    ]
    return tuple({name: amount for name, amount in bundle.items() if amount} for bundle in bundles)


def trial_total(config: RunConfig, *, inline: bool, cpus: float) -> Bundle:
    """Give all a trial takes, its learner included."""
    if inline:
        return {"CPU": cpus}
    return {"CPU": cpus + cpus_wanted(config), "GPU": gpus_wanted(config)}


def most_at_once(wanted: Bundle, available: Bundle, *, bound: int | None = None) -> int:
    """Give how many trials run at once, such that each of them gets all it takes.

    Args:
        wanted: by one trial.
        available: in the cluster.
        bound: the most that the user wants.

    Raises:
        ConfigError: not even one fits.
    """
    for name, amount in wanted.items():
        if amount > available.get(name, 0.0):
            raise ConfigError(
                f"one trial takes {amount:g} {name}s and the cluster has {available.get(name, 0.0):g}; lower "
                "its engines, its ray_learner.num_workers or the sweep's cpus, or name a larger cluster in "
                "RAY_ADDRESS"
            )
    fitting = min(int(available[name] // amount) for name, amount in wanted.items() if amount)
    return min(fitting, bound) if bound is not None else fitting
